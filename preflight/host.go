package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Python looks for Python 3.10 or newer, which only the local kitt command
// needs. It is required, but does not apply unless local returns true, which is
// to say that jobs would be run by that command because there is no image to run
// them in. A nil local means that they would.
func Python(local func(ctx context.Context) bool) Check {
	return Func{Label: "python", Must: true, Do: func(ctx context.Context) Result {
		needed := local == nil || local(ctx)
		program, version := python(ctx)
		r := Result{Status: OK, Details: fmt.Sprintf("Python %s at %s", version, program)}
		if !needed {
			if version == "" {
				return Result{Status: Skip, Details: "no Python found, and none needed: jobs run in containers"}
			}
			r.Details += "; not needed: jobs run in containers"
			return r
		}
		kitt, err := exec.LookPath("kitt")
		switch {
		case version == "":
			return Result{Status: Fail, Details: "neither a KITT image nor Python is here, so that nothing can run a job", Fix: "kitt-agent build"}
		case !atLeast310(version):
			return Result{Status: Fail, Details: fmt.Sprintf("Python %s at %s is older than 3.10, which the local kitt command needs", version, program), Fix: "install Python 3.10 or newer, or run kitt-agent build to run jobs in containers"}
		case err != nil:
			return Result{Status: Fail, Details: r.Details + ", but neither a KITT image nor a kitt command is here", Fix: "kitt-agent build"}
		}
		r.Details += " for " + kitt
		return r
	}}
}

// python returns the interpreter of the kitt command, or else the first on PATH,
// and its version.
func python(ctx context.Context) (program, version string) {
	var candidates []string
	if kitt, err := exec.LookPath("kitt"); err == nil {
		if text, err := readSome(kitt); err == nil {
			if line, ok := strings.CutPrefix(text, "#!"); ok {
				line, _, _ = strings.Cut(line, "\n")
				if words := strings.Fields(line); len(words) == 1 {
					candidates = append(candidates, words[0])
				}
			}
		}
	}
	for _, candidate := range append(candidates, "python3", "python") {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, path, "--version")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if m := pythonVersion.FindSubmatch(out); err == nil && m != nil {
			return path, string(m[1])
		}
	}
	return "", ""
}

var pythonVersion = regexp.MustCompile(`^Python (\d+\.\d+(?:\.\d+)?)`)

func atLeast310(version string) bool {
	parts := strings.Split(version, ".")
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > 3 || major == 3 && minor >= 10
}

// readSome returns the first bytes of a file.
func readSome(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 512)
	n, err := f.Read(b)
	return string(b[:n]), err
}

// Driver looks whether the NVIDIA driver works and which GPUs it has. If d is a
// hwdetect.Telemeter, its readings are looked at as well, since a driver can
// name a GPU that has fallen off the bus.
func Driver(d hwdetect.Detector) Check {
	const install = "install the NVIDIA driver for your distribution, such as `sudo ubuntu-drivers install`, and restart the machine"
	return Func{Label: "nvidia driver", Must: true, Do: func(ctx context.Context) Result {
		m, err := d.Detect(ctx)
		if err != nil {
			return Result{Status: Fail, Details: err.Error()}
		}
		reasons := gpuGaps(m)
		if t, ok := d.(hwdetect.Telemeter); ok {
			if reading, err := t.Telemetry(ctx); err == nil && reading.Sick != "" {
				return Result{Status: Fail, Details: reading.Sick, Fix: "restart the machine"}
			}
		}
		switch {
		case len(m.GPUs) == 0 && m.DriverVersion == "":
			return Result{Status: Fail, Details: reasons, Fix: install}
		case len(m.GPUs) == 0:
			return Result{Status: Fail, Details: fmt.Sprintf("driver %s is loaded but shows no GPU: %s", m.DriverVersion, reasons), Fix: "nvidia-smi"}
		case !usable(m):
			return Result{Status: Fail, Details: fmt.Sprintf("driver %s does not answer: %s", m.DriverVersion, reasons), Fix: "restart the machine, or reload the nvidia kernel module"}
		}
		r := Result{Status: OK, Details: fmt.Sprintf("%s, driver %s", gpuSummary(m), m.DriverVersion)}
		if m.CUDADriver != "" {
			r.Details += ", CUDA up to " + m.CUDADriver
		}
		return r
	}}
}

// usable reports whether the driver itself told of a GPU. The last source names
// those of a broken driver too, but knows no more than that.
func usable(m *hwdetect.Machine) bool {
	for _, g := range m.GPUs {
		if g.MemoryBytes > 0 || g.ComputeCapability != "" {
			return true
		}
	}
	return false
}

func gpuSummary(m *hwdetect.Machine) string {
	g := m.GPUs[0]
	s := fmt.Sprintf("%s %d GiB", g.Model, hwdetect.GiB(g.MemoryBytes))
	if g.Unified {
		s += " (unified)"
	}
	if n := len(m.GPUs); n > 1 {
		s = fmt.Sprintf("%d × %s", n, s)
	}
	return s
}

// gpuGaps joins the reasons why something of the GPUs is not known.
func gpuGaps(m *hwdetect.Machine) string {
	var reasons []string
	for _, g := range m.Gaps {
		switch g.What {
		case "gpus", "memory_bytes", "driver files":
			reasons = append(reasons, g.Reason)
		case "nvml", "nvidia-smi":
			reasons = append(reasons, g.What+": "+g.Reason)
		}
	}
	if len(reasons) == 0 {
		return "no reason is known"
	}
	return strings.Join(reasons, "; ")
}

// NFS looks for the program that mounts NFS shares. share is the configured
// source, which may be empty.
func NFS(share string) Check {
	return Func{Label: "nfs utilities", Do: func(context.Context) Result {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/sbin", "/usr/sbin") {
			path := filepath.Join(dir, "mount.nfs")
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return Result{Status: OK, Details: path}
			}
		}
		r := Result{Status: Warn, Details: "mount.nfs is not installed: shares that are not mounted already cannot be", Fix: nfsPackage()}
		if share == "" {
			r.Status, r.Details = Skip, "mount.nfs is not installed; no share is configured"
		}
		return r
	}}
}

// nfsPackage returns the command that installs mount.nfs on this distribution.
func nfsPackage() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, word := range strings.Fields(strings.Trim(value, `"`)) {
			switch word {
			case "debian", "ubuntu":
				return "sudo apt-get install nfs-common"
			case "fedora", "rhel", "centos":
				return "sudo dnf install nfs-utils"
			case "suse", "opensuse":
				return "sudo zypper install nfs-client"
			case "arch":
				return "sudo pacman -S nfs-utils"
			}
		}
	}
	return "install nfs-common (Debian, Ubuntu) or nfs-utils (others)"
}

// MinDisk is the free space that a machine should have for models: 50 GiB, in the
// units in which KITT counts gigabytes.
const MinDisk = 50 << 30

// DiskSpace looks whether the file system of dir, which need not exist yet, has
// at least MinDisk free.
func DiskSpace(dir string) Check {
	return Func{Label: "disk space", Do: func(context.Context) Result {
		return Space(dir, MinDisk, "remove models that are no longer needed, or set model_storage_dir to a larger disk")
	}}
}

// Space looks whether the file system of dir, which need not exist yet, has at
// least want bytes free; fix says what to do if not. It may hang on a dead
// network share.
func Space(dir string, want int64, fix string) Result {
	at, err := existing(dir)
	if err != nil {
		return Result{Status: Warn, Details: plainError(err)}
	}
	free, err := freeSpace(at)
	if err != nil {
		return Result{Status: Warn, Details: fmt.Sprintf("the free space at %s cannot be told: %s", at, plainError(err))}
	}
	details := fmt.Sprintf("%.1f GB free at %s", float64(free)/(1<<30), at)
	if free < want {
		return Result{Status: Warn, Details: fmt.Sprintf("%s, less than %d GB", details, want>>30), Fix: fix}
	}
	return Result{Status: OK, Details: details}
}

// existing returns dir or the nearest directory above it that exists.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return "", err
		}
		dir = parent
	}
}

// ConfigFile looks whether others may read the agent's configuration, which
// holds its tokens.
func ConfigFile(path string) Check {
	return Func{Label: "configuration", Do: func(context.Context) Result {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Result{Status: Skip, Details: path + " does not exist yet", Fix: "kitt-agent init --server https://HOST:8080"}
		case err != nil:
			return Result{Status: Warn, Details: plainError(err)}
		case !info.Mode().IsRegular():
			return Result{Status: Warn, Details: path + " is no file"}
		}
		if _, err := readSome(path); errors.Is(err, fs.ErrPermission) {
			return Result{Status: Warn, Details: "you may not read " + path, Fix: "sudo chown $(id -u) " + path}
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 && unixModes {
			return Result{Status: Warn, Details: fmt.Sprintf("%s has mode %04o: others may read its tokens", path, mode), Fix: "chmod 600 " + path}
		}
		return Result{Status: OK, Details: path + " is readable for its owner only"}
	}}
}
