package program

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// checkLimit is how long a program may take to say what it is.
const checkLimit = 10 * time.Second

// machines are those that programs are made for, by Go's names.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// check returns why the program can't be the tool.
func (t Tool) check(ctx context.Context, p Program) error {
	if err := static(p.Path); err != nil && !t.describe().outside {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path, append(p.Args[:len(p.Args):len(p.Args)], "-check")...)
	cmd.Env = []string{} // as little as a container may have
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if errors.Is(err, os.ErrPermission) && executable(p.Path) && !t.describe().outside {
		return nil // mounted noexec here, which need not hold in a container
	}
	if err != nil {
		return base.JoinCause(ctx, err)
	}
	if got := string(bytes.TrimSpace(out)); got != t.describe().checkWord {
		return fmt.Errorf("%s: it is another program: it says %q", p.Path, base.Printable(got, 60))
	}
	return nil
}

// executable reports whether a file's mode lets anybody execute it.
func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o111 != 0
}

// static returns why a file isn't a static program for this machine.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if want, known := machines[runtime.GOARCH]; known && f.Machine != want {
		return fmt.Errorf("it is made for %s", f.Machine)
	}
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return errors.New("it is linked dynamically")
		}
	}
	return nil
}
