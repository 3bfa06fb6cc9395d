package socketproxy

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A bind is a mount that a benchmark asks for.
type bind struct {
	source, target string
	readOnly       bool
}

// mounts returns the mounts of a container in place of those that it asks for.
func (p Policy) mounts(asked *container.HostConfig) ([]mount.Mount, error) {
	var binds []bind
	for _, text := range asked.Binds {
		b, err := parseBind(text)
		if err != nil {
			return nil, err
		}
		binds = append(binds, b)
	}
	for _, m := range asked.Mounts {
		if m.Type != mount.TypeBind {
			return nil, refuse("a container of a benchmark may not have a mount of the type %.20q", m.Type)
		}
		binds = append(binds, bind{m.Source, m.Target, m.ReadOnly})
	}
	var all []mount.Mount
	for _, b := range binds {
		more, err := p.mount(b)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	if len(all) > maxMounts {
		return nil, refuse("a container of a benchmark may not have more than %d mounts", maxMounts)
	}
	return all, nil
}

// maxMounts bounds the mounts of a container, those for links in a model included.
const maxMounts = 2048

// parseBind parses source:target[:options]. Options but ro are left out: they would
// relabel the machine's files or let mounts out of the container.
func parseBind(text string) (bind, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return bind{}, invalid("%.200q is not of the form source:target[:options]", text)
	}
	b := bind{source: parts[0], target: parts[1]}
	if len(parts) == 3 {
		b.readOnly = slices.Contains(strings.Split(parts[2], ","), "ro")
	}
	return b, nil
}

// mount returns the mounts that a bind becomes: one, or for a model those that what it
// links to needs as well.
func (p Policy) mount(b bind) ([]mount.Mount, error) {
	target := path.Clean(b.target)
	if !path.IsAbs(b.target) || target == "/" || slices.Contains(strings.Split(b.target, "/"), "..") ||
		slices.ContainsFunc(deviceTargets, func(dir string) bool { return base.Within(dir, target) || base.Within(target, dir) }) {
		return nil, refuse("a container of a benchmark may not have a mount at %.200q", b.target)
	}
	source := filepath.Clean(b.source)
	if !filepath.IsAbs(b.source) || slices.Contains(strings.Split(b.source, "/"), "..") {
		return nil, p.refuseMount(b.source)
	}
	if source == p.Results || slices.Contains(p.Caches, source) {
		return []mount.Mount{bindMount(source, target, b.readOnly)}, nil
	}
	return p.modelMount(source, target)
}

func (p Policy) refuseMount(source string) error {
	return refuse("a container of a benchmark may not mount %.200q, only the job's model, its results and policy.caches of agent.yaml", source)
}

// bindMount returns a mount of a path that doesn't propagate: what is mounted later on
// either side stays there.
func bindMount(source, target string, readOnly bool) mount.Mount {
	return mount.Mount{
		Type: mount.TypeBind, Source: source, Target: target, ReadOnly: readOnly,
		BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
	}
}
