package dockertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// killShims kills what holds containers of this engine and their processes. Without
// containerd nobody else does.
func (p *Private) killShims() {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return // not reached: the pattern is well formed
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte("containerd-shim")) || !bytes.Contains(text, []byte(p.dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for child := range bytes.FieldsSeq(children) {
			if c, err := strconv.Atoi(string(child)); err == nil {
				_ = unix.Kill(c, unix.SIGKILL)
			}
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}
