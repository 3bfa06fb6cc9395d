package docker

import (
	"os"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// A bind is a path of the machine in a container.
type bind struct {
	from, to string
	readOnly bool
	label    bool // whether it is the agent's own, so that SELinux may relabel it
}

// selinux is where the kernel shows SELinux, if it is on.
const selinux = "/sys/fs/selinux/enforce"

// addBinds adds binds to a container. A path that SELinux must relabel for the
// container takes the engine's older form, since mounts have no word for that.
func addBinds(host *container.HostConfig, binds []bind) {
	_, err := os.Stat(selinux)
	relabel := err == nil
	for _, b := range binds {
		if !b.label || !relabel {
			host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: b.from, Target: b.to, ReadOnly: b.readOnly})
			continue
		}
		options := ":z"
		if b.readOnly {
			options = ":ro,z"
		}
		host.Binds = append(host.Binds, b.from+":"+b.to+options)
	}
}
