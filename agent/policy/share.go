package policy

import (
	"errors"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/internal/rules"
)

// ShareRule is the rule for an entry of Policy.Shares.
func ShareRule(pattern string) error {
	if pattern == "*" {
		return nil
	}
	return rules.Share(pattern)
}

// checkShare returns why the server may not name a share.
func (p Policy) checkShare(source string) error {
	if p.Shares == nil {
		return nil
	}
	host, dir, _ := strings.Cut(source, ":/")
	if slices.Contains(strings.Split(dir, "/"), "..") {
		return fault.New(Class, "name the directory itself", "its directory leads upwards")
	}
	for _, pattern := range p.Shares {
		if pattern == "*" {
			return nil
		}
		// Host and directory apart: a * for one must not reach into the other.
		wantHost, wantDir, _ := strings.Cut(pattern, ":/")
		if glob(wantHost, host) && glob(wantDir, dir) {
			return nil
		}
	}
	return refuse("shares", append(slices.Clone(p.Shares), source), "it is not one of the shares that the server may name")
}

// checkMountName returns why the server may not have the share at that place. It
// doesn't look at the directory.
func (p Policy) checkMountName(name string) error {
	at := p.expand(name)
	if p.isOwnMount(at) {
		return nil
	}
	return p.mountPlace(at)
}

func (p Policy) isOwnMount(at string) bool {
	return p.MountDirs == nil || p.Machine.ShareMount != "" && at == p.expand(p.Machine.ShareMount)
}

func (p Policy) mountPlace(at string) error {
	allowed := p.expandAll(p.MountDirs)
	err := p.checkOwn(at)
	for _, dir := range allowed {
		if rel, ok := base.Below(dir, at); ok && err == nil {
			return mountRefusal(at, checkNames(rel))
		}
	}
	if err == nil {
		err = errors.New("it is not below " + strings.Join(allowed, ", "))
	}
	return mountRefusal(at, err)
}

// mountRefusal returns err as a refusal, and nil for nil.
func mountRefusal(at string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(Class, "to allow it, add to agent.yaml: model_share_mount: "+at, "the share is not used there: %w", err)
}

// CheckShareMount returns why the share may not be at a directory, whose links it
// follows. The storage calls it before each use.
func (p Policy) CheckShareMount(name string) error {
	at := p.expand(name)
	if p.isOwnMount(at) {
		return nil
	}
	if err := p.checkMountName(at); err != nil {
		return err
	}
	led, err := real(at)
	if err != nil {
		return mountRefusal(at, err)
	}
	return p.resolved().mountPlace(led)
}
