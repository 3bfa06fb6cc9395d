package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// hostile is an agent whose server does all that it can against the machine. It has
// what `init --server` alone writes, apart from names and ports.
type hostile struct {
	*daemon
	ctx    context.Context
	server *kittapitest.Server
	area   string // a directory below one in which the server may choose directories
}

func newHostile(t *testing.T, runner string, more ...string) *hostile {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root has directories below /srv, and those of other users")
	}
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	server.AddAgent("chaos")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	area, err := os.MkdirTemp("/srv", "kitt-policy-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(area)) })
	h := &hostile{daemon: newDaemon(t, buildProgram(t), server.URL, runner, more...), ctx: ctx, server: server, area: area}
	require.NoError(t, os.MkdirAll(h.path("share"), 0o755))
	require.NoError(t, os.WriteFile(h.path("share/kitt-policy-test"), []byte("# left by a test of kitt-agent\n"), 0o644))
	h.start()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(h.daemon))
	return h
}

// path returns the path of a file in the area.
func (h *hostile) path(name string) string { return filepath.Join(h.area, name) }

// set gives settings the values that the server sends, and returns the agent's status
// once it has them.
func (h *hostile) set(settings map[string]string) agent.Status {
	h.t.Helper()
	for name, value := range settings {
		h.server.SetSetting("chaos", name, value)
	}
	h.run("heartbeat")
	var report struct{ Status agent.Status }
	require.NoError(h.t, json.Unmarshal(h.run("status", "--json"), &report))
	return report.Status
}

func (h *hostile) run(args ...string) []byte {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx, h.prog.path, args...)
	cmd.Env = append(os.Environ(), "KITT_HOME="+h.home)
	out, err := cmd.Output()
	require.NoError(h.t, err, "%s: %s\n%s", args, out, tail(h.daemon))
	return out
}

// test has the agent run a test of model, and returns its end and its log.
func (h *hostile) test(model string) (kittapitest.Test, string) {
	h.t.Helper()
	id, _, err := h.server.Launch("chaos", model)
	require.NoError(h.t, err)
	h.run("heartbeat")
	require.NoError(h.t, h.server.WaitForEnd(h.ctx, id), tail(h.daemon))
	test, _ := h.server.Test(id)
	return test, strings.Join(h.server.Lines(id), "\n")
}

// refuses requires that the setting is not in force, and that status and the job's
// log say so with the line to add.
func (h *hostile) refuses(setting, value, line string) {
	h.t.Helper()
	status := h.set(map[string]string{setting: value})
	require.NotEqual(h.t, value, status.Settings[setting])
	said := strings.Join(status.Warnings, "\n")
	require.Contains(h.t, said, "The setting "+setting)
	require.Contains(h.t, said, line)
	_, log := h.test("fake:lines.1")
	require.Contains(h.t, log, "The setting "+setting)
	require.Contains(h.t, log, line)
	require.Contains(h.t, log, "Benchmark completed")
}

// The share holds a file, and the server names the directory to copy it to.
func TestServerCannotHaveFilesWrittenOutsideItsDirectories(t *testing.T) {
	t.Parallel()
	h := newHostile(t, "process")
	for _, dir := range []string{"theirs", "full", "real/.ssh", "empty"} {
		require.NoError(t, os.MkdirAll(h.path(dir), 0o755))
	}
	require.NoError(t, os.Chown(h.path("theirs"), 65534, 65534))
	require.NoError(t, os.WriteFile(h.path("full/something"), nil, 0o644))
	require.NoError(t, os.Symlink("/etc/cron.d", h.path("cron")))
	require.NoError(t, os.Symlink("real/.ssh", h.path("keys")))
	require.NoError(t, os.Symlink("/etc", h.path("etc")))
	require.NoError(t, os.Symlink(h.home, h.path("agent")))
	h.set(map[string]string{"model_share_mount": h.path("share")})
	attacks := map[string]string{
		"ld.so.preload":           "/etc",
		"cron":                    "/etc/cron.d",
		"authorized_keys2":        "~/.ssh",
		"autostart":               "~/.config/autostart",
		"home":                    "~",
		"a home":                  "/home/somebody",
		"programs":                h.path("bin"),
		"a hidden directory":      h.path("real/.ssh"),
		"a new hidden one":        h.path("new/.ssh"),
		"another user's":          h.path("theirs"),
		"below another user's":    h.path("theirs/new"),
		"files of others":         h.path("full"),
		"a link":                  h.path("cron"),
		"a link to a hidden one":  h.path("keys"),
		"a link on the way":       h.path("etc/new"),
		"a prefix itself":         "/srv",
		"a similar name":          "/srv2/models",
		"root's scripts":          "/var/lib/cloud/scripts/per-boot",
		"extensions of /usr":      "/var/lib/extensions/x",
		"the agent's":             h.home,
		"the agent's jobs":        filepath.Join(h.home, "jobs", "x"),
		"the agent's by a link":   h.path("agent/supervisor"),
		"a cron that users write": "/var/spool/cron/crontabs",
		"temporary files":         "/tmp/kitt-policy-models",
	}
	for name, dir := range attacks {
		h.refuses("model_storage_dir", dir, "policy: {storage_dirs: [")
		test, _ := h.test("kitt-policy-test")
		require.Equal(t, "completed", test.Status, "the machine's own directory is used")
		at := filepath.Join(strings.Replace(dir, "~", "/root", 1), "kitt-policy-test")
		if !strings.HasPrefix(at, h.home) {
			require.NoFileExists(t, at, name)
		}
	}
	status := h.set(map[string]string{"model_storage_dir": h.path("empty") + "/../../../etc"})
	require.Contains(t, strings.Join(status.Warnings, "\n"), "it has .. in it")
	for _, gone := range []string{"new", "bin", "theirs/new"} {
		require.NoDirExists(t, h.path(gone))
	}
}

func TestServerMayChooseDirectoriesForModels(t *testing.T) {
	t.Parallel()
	h := newHostile(t, "process")
	require.NoError(t, os.Mkdir(h.path("empty"), 0o755))
	for _, name := range []string{"empty", "new/models"} {
		status := h.set(map[string]string{
			"model_storage_dir": h.path(name), "model_share_mount": h.path("share"), "model_share_source": "nas:/models",
			"auto_cleanup": "false", "heartbeat_interval_s": "60", "kitt_image": "registry.example/tools/kitt:1.7.0",
		})
		require.Empty(t, status.Warnings)
		require.Equal(t, map[string]string{
			"model_storage_dir": h.path(name), "model_share_mount": h.path("share"), "model_share_source": "nas:/models",
			"auto_cleanup": "false", "heartbeat_interval_s": "60", "kitt_image": "registry.example/tools/kitt:1.7.0",
		}, status.Settings)
		test, log := h.test("kitt-policy-test")
		require.Equal(t, "completed", test.Status, log)
		require.FileExists(t, h.path(name+"/kitt-policy-test"))
	}
	h.kill()
	beats := h.server.Beats("chaos")
	h.start()
	require.NoError(t, h.server.Wait(h.ctx, func() bool { return h.server.Beats("chaos") > beats }), tail(h.daemon))
	require.Empty(t, h.set(map[string]string{"model_storage_dir": h.path("empty")}).Warnings, "it is the agent's now")
}

func TestServerCannotHaveFilesReadAsModels(t *testing.T) {
	t.Parallel()
	h := newHostile(t, "process")
	_, log := h.test("/etc/shadow")
	require.Contains(t, log, "add to agent.yaml: policy: {model_dirs: [/etc]}")
	require.NoError(t, os.Symlink("/etc/shadow", h.path("share/shadow")))
	require.NoError(t, os.Symlink("/etc", h.path("share/etc")))
	require.NoError(t, os.Symlink("/etc/shadow", h.path("linked")))
	require.NoError(t, os.WriteFile(h.path("secret"), []byte("s"), 0o600))
	h.set(map[string]string{"model_share_mount": h.path("share")})
	for _, model := range []string{
		"/etc/shadow", "/proc/self/environ", "/proc/1/environ", "/proc/self/root/etc/shadow", "/proc/self/cwd", "/sys/kernel/vmcoreinfo", "/dev/shm",
		"/etc", "/root", "~/.bashrc", "/etc/../etc/shadow", "//etc//shadow", h.path("linked"), h.path("secret"), h.path("share/shadow"), h.path("share/etc/shadow"),
		"shadow", "etc/shadow", filepath.Join(h.home, "agent.yaml"), filepath.Join(h.home, "jobs"), h.home,
	} {
		test, log := h.test(model)
		require.Equal(t, "failed", test.Status, "%s: %s", model, log)
		require.NotContains(t, log, "running", model)
	}
}

func TestServerCannotMakeAnyDirectoryTheShare(t *testing.T) {
	t.Parallel()
	h := newHostile(t, "process")
	require.NoError(t, os.Symlink("/etc", h.path("link")))
	require.NoError(t, os.Symlink("/proc/self", h.path("proc")))
	require.NoError(t, os.Symlink(h.home, h.path("home")))
	for _, mount := range []string{"/etc", "/proc/self", "/root", "~/.ssh", h.home, filepath.Join(h.home, "certs"), "/srv", "/mnt", "/var/lib/docker", h.path(".ssh")} {
		h.refuses("model_share_mount", mount, "add to agent.yaml: model_share_mount: ")
	}
	for mount, model := range map[string]string{"link": "shadow", "proc": "environ", "home": "agent.yaml"} {
		h.set(map[string]string{"model_share_mount": h.path(mount)})
		test, log := h.test(h.path(mount) + "/" + model)
		require.Equal(t, "failed", test.Status, log)
		require.Contains(t, log, "the share is not used there", mount)
	}
	status := h.set(map[string]string{"model_share_mount": h.path("share"), "model_share_source": "nas:/a/../b"})
	require.Contains(t, strings.Join(status.Warnings, "\n"), "its directory leads upwards")
}

// The agent before this one had no policy.
func TestUpgradeListsJobsOfTheRealProgram(t *testing.T) {
	t.Parallel()
	h := newHostile(t, "process", "model_storage_dir: /srv/kitt-policy-unused")
	model := h.path("fake:lines.1")
	require.NoError(t, os.WriteFile(model, []byte("weights"), 0o644))
	settings := filepath.Join(h.home, "agent.yaml")
	before, err := os.ReadFile(settings)
	require.NoError(t, err)
	restart := func(text string) {
		h.stop()
		require.NoError(t, os.WriteFile(settings, []byte(text), 0o600))
		require.NoError(t, os.RemoveAll(filepath.Join(h.home, "server.json")))
		beats := h.server.Beats("chaos")
		h.start()
		require.NoError(t, h.server.Wait(h.ctx, func() bool { return h.server.Beats("chaos") > beats }), tail(h.daemon))
	}
	restart(string(before) + "policy: {model_dirs: [" + h.area + "]}\n")
	test, log := h.test(model)
	require.Equal(t, "completed", test.Status, log)
	restart(string(before))
	status := h.set(nil)
	require.Contains(t, strings.Join(status.Warnings, "\n"), "The policy would refuse 1 of the jobs of the last 30 days")
	require.Contains(t, h.out.String(), "this job would be refused today")
	require.Contains(t, h.out.String(), "policy: {model_dirs: ["+h.area+"]}")
	test, _ = h.test(model)
	require.Equal(t, "failed", test.Status)
}

func TestOwnerNarrowsAndWidens(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root has directories below /srv")
	}
	dir, err := os.MkdirTemp("/srv", "kitt-policy-owner-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fake:lines.1"), []byte("weights"), 0o644))
	h := newHostile(t, "process", `policy: {server_may_set: [model_storage_dir, model_share_source, kitt_image], storage_dirs: [`+dir+`],
  shares: ["nas*:/models/*"], model_dirs: [`+dir+`], images: ["registry.example/kitt:1.*"]}`)
	status := h.set(map[string]string{"model_storage_dir": dir, "model_share_source": "nas2:/models/a/b", "kitt_image": "registry.example/kitt:1.8"})
	require.Empty(t, status.Warnings)
	require.Equal(t, dir, status.Settings["model_storage_dir"], "the owner listed it, though it holds files")
	h.refuses("model_storage_dir", h.path("new"), "storage_dirs: ["+h.path("new")+"]")
	h.refuses("model_share_source", "evil:/models/a", `shares: ["nas*:/models/*", "evil:/models/a"]`)
	h.refuses("model_share_source", "evil:/nas:/models/a", "shares: [")
	h.refuses("kitt_image", "evil/kitt:1.8", "images: [")
	h.refuses("heartbeat_interval_s", "77", "server_may_set: [model_storage_dir, model_share_source, kitt_image, heartbeat_interval_s]")
	test, log := h.test(filepath.Join(dir, "fake:lines.1"))
	require.Equal(t, "completed", test.Status, log)
}
