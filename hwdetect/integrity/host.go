package integrity

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// maxHostFile is the most that is read of one file of /proc or /sys, in bytes.
// /proc/stat is the longest, with 60 bytes for each CPU and a long line of
// interrupts; only its first line matters.
const maxHostFile = 64 << 10

// host reads a Linux machine's files.
type host struct{ root fs.FS }

// text returns a file's text, and an empty one if it cannot be read.
func (h host) text(name string) string {
	f, err := h.root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxHostFile))
	return strings.ReplaceAll(string(b), "\x00", "")
}

func (h host) line(name string) string { return strings.TrimSpace(h.text(name)) }

// pressure reads the files of /proc/pressure.
func (h host) pressure() (p Pressure) {
	p.CPUSome, _ = parsePressure(h.text("proc/pressure/cpu"))
	p.MemorySome, p.MemoryFull = parsePressure(h.text("proc/pressure/memory"))
	p.IOSome, p.IOFull = parsePressure(h.text("proc/pressure/io"))
	return p
}

// clocks returns the time and the uptime of the same moment. The uptime is nil if
// the machine is too busy to read both within 20 ms.
func (h host) clocks() (time.Time, *time.Duration) {
	for range 3 {
		before := time.Now()
		uptime := parseUptime(h.text("proc/uptime"))
		after := time.Now()
		if after.Sub(before) <= 20*time.Millisecond {
			return after.Round(0), uptime
		}
	}
	return time.Now().Round(0), nil
}

// state reads all of a HostState, with a gap for what this machine has not.
func (h host) state() (s HostState, gaps []Gap) {
	missing := func(what, why string) { gaps = append(gaps, Gap{What: what, Reason: why}) }
	s.Pressure = h.pressure()
	if s.MemoryFull == nil {
		missing("psi", "/proc/pressure cannot be read; the kernel needs CONFIG_PSI and the option psi=1")
	}
	if total, steal, err := parseCPU(h.text("proc/stat")); err == nil {
		s.CPUTicks, s.StealTicks = &total, &steal
	} else {
		missing("steal", "/proc/stat: "+err.Error())
	}
	vm := parseCounters(h.text("proc/vmstat"), "pswpin", "pgmajfault", "oom_kill")
	s.SwapInPages, s.MajorFaults, s.OOMKills = vm[0], vm[1], vm[2]
	if s.SwapInPages == nil {
		missing("swap_in", "/proc/vmstat has no pswpin")
	}
	if s.Governors = h.governors(); s.Governors == nil {
		missing("governor", "the CPUs have no cpufreq; a hypervisor or the firmware sets their clocks")
	}
	s.Turbo, s.SMT = h.turbo(), h.smt()
	s.Microcode = h.microcode()
	return s, gaps
}

// governors returns the different cpufreq governors of all CPUs.
func (h host) governors() []string {
	files, _ := fs.Glob(h.root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
	var names []string
	for _, file := range files {
		if name := h.line(file); name != "" && len(name) <= 32 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// turbo reports whether CPUs may exceed their base clock; nil if unknown.
func (h host) turbo() *bool {
	switch h.line("sys/devices/system/cpu/intel_pstate/no_turbo") {
	case "0":
		return new(true)
	case "1":
		return new(false)
	}
	switch h.line("sys/devices/system/cpu/cpufreq/boost") {
	case "1":
		return new(true)
	case "0":
		return new(false)
	}
	return nil
}

// smt reports whether simultaneous multithreading is active; nil if unknown.
func (h host) smt() *bool {
	switch h.line("sys/devices/system/cpu/smt/active") {
	case "0":
		return new(false)
	case "1":
		return new(true)
	}
	return nil
}

// microcode returns the revision of the first CPU, such as 0x2b000603.
func (h host) microcode() string {
	rev := h.line("sys/devices/system/cpu/cpu0/microcode/version")
	if len(rev) > 32 || strings.ContainsAny(rev, " \n\t") {
		return ""
	}
	return rev
}

// process returns a process's name and its owner's id, empty if unknown.
func (h host) process(pid int) (command, owner string) {
	dir := "proc/" + strconv.Itoa(pid)
	command = base.Printable(h.line(dir+"/comm"), 64)
	for line := range strings.Lines(h.text(dir + "/status")) {
		// The ids are the real, effective, saved and file system's (proc_pid_status(5)).
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Uid:" {
			owner = "uid " + base.Printable(fields[1], 16)
		}
	}
	return command, owner
}

// readable reports why there is no machine to read at all.
func (h host) readable() error {
	if _, err := fs.Stat(h.root, "proc/stat"); err != nil {
		return errors.New("integrity: there is no /proc; the state of the host can be read on Linux only")
	}
	return nil
}
