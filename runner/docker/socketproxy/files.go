package socketproxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// Names in a proxy's directory.
const (
	policyFile = "policy.json"
	lockFile   = "lock"
	stateFile  = "proxy.json"
	logFile    = "log"
	socketDir  = "engine"
	socketFile = "docker.sock"
)

// Target is where a benchmark's container has the directory with its socket. It is
// short: the path of a socket has at most 107 bytes (unix(7)).
const Target = "/run/kitt-engine"

// DockerHost is the value of DOCKER_HOST in a benchmark's container.
const DockerHost = "unix://" + Target + "/" + socketFile

// SocketDir returns the directory that is to be mounted at Target.
func SocketDir(dir string) string { return filepath.Join(dir, socketDir) }

// A state says which process serves a proxy's socket.
type state struct {
	Version int       `json:"version"`
	Boot    string    `json:"boot"` // the kernel's boot ID
	Process procfs.ID `json:"process"`
}

const (
	stateVersion = 1
	maxState     = 4 << 10 // bytes
)

// writeState notes down that this process serves the socket.
func writeState(dir string) error {
	self, ok := procfs.Lookup(os.Getpid())
	if !ok {
		return errors.New("this process is not in /proc")
	}
	return base.WriteJSON(filepath.Join(dir, stateFile), state{stateVersion, base.BootID(), self.ID}, maxState)
}

// readState returns which process serves the socket, if it runs.
func readState(dir string) (procfs.ID, bool, error) {
	var s state
	err := base.ReadJSON(filepath.Join(dir, stateFile), &s, maxState)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return procfs.ID{}, false, nil
	case err != nil:
		return procfs.ID{}, false, err
	case s.Version != stateVersion:
		return procfs.ID{}, false, fmt.Errorf("%s: version %d is not understood", filepath.Join(dir, stateFile), s.Version)
	}
	return s.Process, s.Boot == base.BootID() && s.Process.Alive(), nil
}

// lock takes the lock of a proxy's directory, which is released when all copies of the
// file are closed. It returns nil if a proxy has it.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, f.Close()
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
}
