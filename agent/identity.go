package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kirizan/kitt-agent/internal/base"
)

// An identity tells a machine and a state directory from their copies. What cannot be
// read is empty.
type identity struct {
	MachineID string `json:"machine_id"` // machine-id(5)
	BootID    string `json:"boot_id"`
	DirID     string `json:"dir_id"` // the directory's inode number, which a copy does not share
}

// readIdentity returns the identity of this machine and of dir.
func readIdentity(dir string) identity {
	id := identity{BootID: base.BootID()}
	if text, err := os.ReadFile("/etc/machine-id"); err == nil {
		id.MachineID = strings.TrimSpace(string(text))
	}
	if info, err := os.Stat(filepath.Clean(dir)); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			id.DirID = strconv.FormatUint(stat.Ino, 10)
		}
	}
	return id
}

// sameOwner reports whether id and other are of one directory on one machine, as far as
// both are known. A restart of the machine changes nothing about that.
func (id identity) sameOwner(other identity) bool {
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(id.MachineID, other.MachineID) && same(id.DirID, other.DirID)
}
