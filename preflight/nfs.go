package preflight

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// NFS checks that the program that mounts NFS shares is installed. share is the
// configured source; if it is empty, a missing program is no warning.
func NFS(share string) Check {
	return Func{Label: "nfs utilities", Do: func(context.Context) Result {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/sbin", "/usr/sbin") {
			path := filepath.Join(dir, "mount.nfs")
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return Result{Status: OK, Details: path}
			}
		}
		r := Result{Status: Warn, Details: "mount.nfs is not installed: the agent cannot mount shares", Fix: nfsPackage()}
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
