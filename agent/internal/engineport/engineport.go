// Package engineport finds the process that listens on an inference engine's port.
//
// KITT starts an engine on a fixed port of the machine, and measures whatever answers
// there. A server that held the port before is measured in place of the requested model,
// and the benchmark passes. So the agent looks before the start.
//
// The process is found by the open files of all processes. Only root may see those of
// other users; the socket's owner is known all the same.
package engineport

import (
	"fmt"
	"io"
	"io/fs"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// Default returns the port on which KITT 1.7 starts an engine, in a container and on the
// machine itself, and whether it is known.
func Default(name string) (port int, known bool) {
	spec, known := engine.Lookup(name)
	return spec.Port, known && spec.Port > 0
}

// A Holder is what listens on a port.
type Holder struct {
	Port    int
	UID     int    // of the socket's owner
	PID     int    // 0 if this program may not see it
	Command string // name of the process; empty if unknown
	Program string // path of its executable; empty if unknown
}

// String names the holder for a person.
func (h Holder) String() string {
	owner := fmt.Sprintf("user %d", h.UID)
	if u, err := user.LookupId(strconv.Itoa(h.UID)); err == nil {
		owner = "user " + u.Username
	}
	if h.PID == 0 {
		return "a process of " + owner
	}
	return fmt.Sprintf("process %d (%s) of %s", h.PID, base.Printable(h.Command, 64), owner)
}

// Find returns what listens on a port of this program's network, nil if nothing does.
// root is the machine's file tree. The error says why it is not known.
func Find(root fs.FS, port int) (*Holder, error) {
	listeners, err := base.Listeners(root)
	if err != nil {
		return nil, fmt.Errorf("look for what listens on port %d: %w", port, err)
	}
	for _, l := range listeners {
		if l.Port == port {
			h := &Holder{Port: port, UID: l.UID}
			h.identify(root, l.Inode)
			return h, nil
		}
	}
	return nil, nil
}

func readAll(root fs.FS, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// identify finds the process that has the socket with this inode open. Where it may not
// see that, a process of the same user whose name is that of an engine must do.
func (h *Holder) identify(root fs.FS, inode string) {
	pids, err := fs.Glob(root, "proc/[0-9]*")
	if err != nil {
		return
	}
	links, _ := root.(fs.ReadLinkFS)
	for _, dir := range pids {
		if links == nil || !hasSocket(root, links, dir, inode) {
			continue
		}
		h.take(root, links, dir)
		return
	}
	for _, dir := range pids {
		text, err := readAll(root, dir+"/comm", 64)
		name := strings.TrimSpace(string(text))
		if err != nil || !slices.Contains(engineCommands, name) || ownerOf(root, dir) != h.UID {
			continue
		}
		h.take(root, links, dir)
		return
	}
}

// engineCommands are names of processes that serve models.
var engineCommands = []string{ollama, "llama-server", "vllm"}

const ollama = "ollama"

// take fills in the process of dir, such as proc/42.
func (h *Holder) take(root fs.FS, links fs.ReadLinkFS, dir string) {
	h.PID, _ = strconv.Atoi(path.Base(dir))
	comm, _ := readAll(root, dir+"/comm", 64)
	h.Command = strings.TrimSpace(string(comm))
	if links != nil {
		h.Program, _ = links.ReadLink(dir + "/exe")
	}
}

// hasSocket reports whether a process has the socket open.
func hasSocket(root fs.FS, links fs.ReadLinkFS, dir, inode string) bool {
	fds, err := fs.ReadDir(root, dir+"/fd")
	if err != nil {
		return false
	}
	want := "socket:[" + inode + "]"
	return slices.ContainsFunc(fds, func(fd fs.DirEntry) bool {
		target, err := links.ReadLink(dir + "/fd/" + fd.Name())
		return err == nil && target == want
	})
}

// ownerOf returns a process's effective user, -1 if unknown.
func ownerOf(root fs.FS, dir string) int {
	text, err := readAll(root, dir+"/status", 64<<10)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "Uid:" {
			if uid, err := strconv.Atoi(fields[2]); err == nil {
				return uid
			}
		}
	}
	return -1
}

// IsOllama reports whether the holder is ollama's own service.
func (h Holder) IsOllama() bool {
	// The kernel adds " (deleted)" after an update.
	return h.PID != 0 && (path.Base(strings.TrimSuffix(h.Program, " (deleted)")) == ollama || h.Program == "" && h.Command == ollama)
}
