package engine

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// A machine is what runs and listens on this one, read once.
type machine struct {
	processes []process
	listeners map[string]int // ports by the inode of the socket
}

// A process is one of this machine's, with the name of its program (proc_pid_comm(5)).
type process struct {
	procfs.Process
	name string
}

// listening looks at the machine. Systems without /proc show nothing.
func listening() machine {
	m := machine{listeners: map[string]int{}}
	for _, p := range procfs.All() {
		if name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "comm")); err == nil {
			m.processes = append(m.processes, process{p, string(bytes.TrimSpace(name))})
		}
	}
	listeners, err := base.Listeners(os.DirFS("/"))
	if err != nil {
		return m // there is no /proc
	}
	for _, l := range listeners {
		m.listeners[l.Inode] = l.Port
	}
	return m
}

// find returns the process that serves an engine, and whether there is one. Where it
// listens elsewhere than on *port, *port is changed.
func (m machine) find(s Spec, port *int) (pid int, running bool) {
	for _, p := range m.processes { // a service that others run may hide what it has open
		if !p.serves(s) {
			continue
		}
		ports, readable := m.ports(p.PID)
		switch {
		case slices.Contains(ports, s.Port):
			*port = s.Port
			return p.PID, true
		case len(ports) > 0 && !running:
			pid, running, *port = p.PID, true, ports[0]
		case !readable && !running && m.anyOn(s.Port):
			pid, running = p.PID, true
		}
	}
	return pid, running
}

// anyOn reports whether a process listens on a port.
func (m machine) anyOn(port int) bool {
	return slices.Contains(slices.Collect(maps.Values(m.listeners)), port)
}

// ports returns on which ports a process listens; readable is false if this user may not
// know that.
func (m machine) ports(pid int) (ports []int, readable bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if port, listens := m.listeners[strings.TrimSuffix(inode, "]")]; ok && listens && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports, true
}

// serves reports whether p is one of an engine's processes, by the name of its program or
// the module that it runs.
func (p process) serves(s Spec) bool {
	if s.Program != "" && p.name == s.Program {
		return true
	}
	return s.Run != "" && strings.HasPrefix(p.name, "python") && slices.Contains(p.Args(), s.Run)
}

// PortTaken reports whether a process listens on a port of this machine.
func PortTaken(port int) bool { return listening().anyOn(port) }

// ListensOn reports whether the process root, or one that comes from it, listens on a
// port of this machine, and its PID.
func ListensOn(port, root int) (pid int, ok bool) {
	m := listening()
	pids := []int{root}
	for _, p := range procfs.Descendants(procfs.All(), root) {
		pids = append(pids, p.PID)
	}
	for _, pid := range pids {
		if ports, _ := m.ports(pid); slices.Contains(ports, port) {
			return pid, true
		}
	}
	return 0, false
}
