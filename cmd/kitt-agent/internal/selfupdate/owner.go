package selfupdate

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

const ownerTimeout = 10 * time.Second

// Owner returns what a person runs to update the program at path, where it came
// with a package of the system's, and an empty text where it did not.
func Owner(ctx context.Context, path string) (upgrade string) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	managers := []struct{ query, upgrade []string }{
		{[]string{"dpkg", "-S", "--", path}, []string{"apt-get", "install", "./kitt-agent_VERSION_ARCH.deb"}},
		{[]string{"rpm", "-qf", "--", path}, []string{"rpm", "-U", "kitt-agent-VERSION.ARCH.rpm"}},
	}
	for _, m := range managers {
		cmd := exec.CommandContext(ctx, m.query[0], m.query[1:]...)
		cmd.WaitDelay = time.Second
		// Each exits with 0 only if a package owns the file.
		if cmd.Run() == nil {
			return strings.Join(m.upgrade, " ")
		}
	}
	return ""
}
