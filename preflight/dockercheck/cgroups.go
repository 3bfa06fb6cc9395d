package dockercheck

import (
	"context"
	"io/fs"
	"regexp"
	"strings"

	"github.com/kirizan/kitt-agent/preflight"
)

// ControlGroups checks for settings of control groups and user namespaces that
// keep containers from using GPUs, or take the GPUs away later.
func (c *Checks) ControlGroups() preflight.Check {
	return preflight.Func{Label: "control groups", Do: func(context.Context) preflight.Result {
		e, err := c.engine()
		if err != nil {
			return unreachable()
		}
		return checkControlGroups(c.cfg.Root, e)
	}}
}

var noCgroups = regexp.MustCompile(`(?m)^\s*no-cgroups\s*=\s*true`)

func checkControlGroups(root fs.FS, e engine) preflight.Result {
	warn := func(details, fix string) preflight.Result {
		return preflight.Result{Status: preflight.Warn, Details: details, Fix: fix}
	}
	config, _ := fs.ReadFile(root, "etc/nvidia-container-runtime/config.toml")
	switch {
	case e.has("name=rootless"):
		if !noCgroups.Match(config) {
			return warn("the engine is rootless, but NVIDIA's runtime tries to set device rules, which only root can do",
				"nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place")
		}
		if limit, err := fs.ReadFile(root, "proc/sys/user/max_user_namespaces"); err == nil && strings.TrimSpace(string(limit)) == "0" {
			return warn("the engine is rootless, and the kernel allows no user namespaces", "sudo sysctl user.max_user_namespaces=28633")
		}
	case noCgroups.Match(config):
		return warn("no-cgroups is set for NVIDIA's runtime, which is only for a rootless engine: containers may have no access to their GPUs",
			"sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place")
	case e.has("name=userns"):
		return warn("the engine maps users (userns-remap): files that a benchmark writes belong to other users, and containers on the host's network need --userns=host",
			"remove userns-remap from /etc/docker/daemon.json")
	case e.cgroupVersion == "" && e.cgroupDriver == "none":
		return warn("the engine has no control groups", "docker info")
	case e.cgroupDriver == "systemd" && nvidiaDevices(root) && !charLinks(root):
		// https://github.com/NVIDIA/nvidia-container-toolkit/issues/48
		return warn("on a systemctl daemon-reload, running containers lose their GPUs: systemd does not find NVIDIA's devices under /dev/char",
			"sudo nvidia-ctk system create-dev-char-symlinks --create-all")
	}
	details := "driver " + e.cgroupDriver
	if e.cgroupVersion != "" {
		details += ", version " + e.cgroupVersion
	}
	return preflight.Result{Status: preflight.OK, Details: details}
}

// has reports whether a security option is set.
func (e engine) has(option string) bool {
	for _, o := range e.security {
		if o == option || strings.HasPrefix(o, option+",") {
			return true
		}
	}
	return false
}

// nvidiaDevices reports whether NVIDIA's device files exist.
func nvidiaDevices(root fs.FS) bool {
	_, err := fs.Stat(root, "dev/nvidiactl")
	return err == nil
}

// charLinks reports whether /dev/char has links to NVIDIA's devices, which have
// the major number 195 (Documentation/admin-guide/devices.txt of Linux).
func charLinks(root fs.FS) bool {
	links, _ := fs.Glob(root, "dev/char/195:*")
	return len(links) > 0
}
