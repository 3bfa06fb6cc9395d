package docker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// ImageUser as Config.User leaves the user of a benchmark's container to its image.
const ImageUser = "image"

// homeTarget is the home of a user that the image doesn't know, in memory.
const homeTarget = "/run/kitt-home"

// An identity is who a benchmark is in its container, and what it may do there.
type identity struct {
	user   string   // empty for the image's
	groups []string // in addition to the user's
	root   bool     // whether it is root in the container
	home   bool     // whether it needs a home
}

// identify returns who a benchmark is in a container of the image. An image whose user
// is root is run as the agent's user, to which the results and the model belong: root
// in a container can't write to them without a capability, and what it writes the agent
// can't remove. Where the engine maps users, root in a container is the agent's user or
// another that is not root outside, and stays.
func (r *Runner) identify(ctx context.Context, image string) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	i, err := r.engine.ImageInspect(ctx, image)
	if err != nil {
		return identity{}, fmt.Errorf("look at the image: %w", err)
	}
	imageUser := ""
	if i.Config != nil {
		imageUser = i.Config.User
	}
	engine, err := r.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return identity{}, err
	}
	return choose(r.config.User, imageUser, os.Geteuid(), os.Getegid(), agentGroups(), mapsUsers(engine.Info.SecurityOptions)), nil
}

// agentGroups returns the groups of the agent, some of which may be what lets it read
// models.
func agentGroups() []int {
	groups, err := os.Getgroups()
	if err != nil {
		return nil
	}
	return groups
}

// choose returns the identity by the setting, the image's user, the agent's IDs, and
// whether the engine maps users.
func choose(setting, imageUser string, uid, gid int, groups []int, mapped bool) identity {
	switch {
	case setting == ImageUser || setting == "" && (!isRoot(imageUser) || uid == 0 || mapped):
		return identity{root: isRoot(imageUser)}
	case setting != "":
		return identity{user: setting, root: isRoot(setting), home: setting != imageUser}
	}
	who := identity{user: fmt.Sprintf("%d:%d", uid, gid), home: true}
	for _, g := range groups {
		if g != gid {
			who.groups = append(who.groups, strconv.Itoa(g))
		}
	}
	return who
}

// isRoot reports whether the user of an image, as user or user:group, is root.
func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

// mapsUsers reports whether users in containers are others outside, by the engine's
// security options.
func mapsUsers(options []string) bool {
	return slices.ContainsFunc(options, func(option string) bool {
		return option == "name=rootless" || option == "name=userns" || strings.HasPrefix(option, "name=rootless,") || strings.HasPrefix(option, "name=userns,")
	})
}

// apply makes a container's process the identity, without what it has no use for. Root
// keeps the capability to read a model and write results whosever they are.
func (who identity) apply(config *container.Config, host *container.HostConfig) {
	config.User, host.GroupAdd = who.user, who.groups
	host.CapDrop = []string{"ALL"}
	if who.root {
		host.CapAdd = []string{"DAC_OVERRIDE"}
	}
	host.SecurityOpt = append(host.SecurityOpt, "no-new-privileges")
	if who.home {
		host.Tmpfs = map[string]string{homeTarget: "mode=1777,nosuid,nodev"}
		config.Env = append([]string{"HOME=" + homeTarget}, config.Env...)
	}
}
