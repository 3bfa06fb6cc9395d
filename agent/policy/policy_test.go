package policy

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/internal/rules"
)

var machine = Machine{StorageDir: "~/.kitt/models", Image: "registry.example:5000/bench/own:1", Dir: "/var/lib/kitt-agent/.kitt", Home: "/var/lib/kitt-agent"}

func TestCheckSetting(t *testing.T) {
	t.Parallel()
	p := Default(machine)
	for setting, values := range map[string]struct{ good, bad []string }{
		ModelStorageDir: {
			[]string{"~/.kitt/models", "/var/lib/kitt-agent/.kitt/models/more", "/home/ann/models", "/data/models", "/data/m/", "/srv/a/b", "/mnt/big",
				"/media/usb/models", "/var/lib/kitt/models", "/var/lib/models"},
			[]string{"/", "/data", "/data/", "/data2/m", "/datam", "/etc", "/etc/cron.d", "/usr/local/bin", "/root/models", "/tmp/m", "/home", "/home/ann",
				"/home/ann/.ssh", "/home/ann/bin", "/home/ann/.config/systemd/user", "/srv/.x/m", "/srv/x/etc", "~", "~/.ssh", "~/.kitt", "~/.kitt/jobs/x", "/var/lib",
				"/var/lib/extensions/x", "/var/lib/cloud/scripts/per-boot", "/var/lib/docker/x", "/var/lib/../lib/cloud", "/proc/self/cwd", "/dev/shm/m"},
		},
		ModelShareMount: {
			[]string{"/mnt/models", "/media/nas/models", "/srv/share"},
			[]string{"/etc", "/mnt", "/mnt/", "/data/share", "/proc", "~", "~/share", "/mnt/.x", "/mnt/x/etc", "/", "/srv/../etc"},
		},
		ModelShareSource: {
			[]string{"nas:/volume1/models", "10.0.0.7:/"},
			[]string{"nas:/a/../b", "nas:/.."},
		},
		KITTImage: {
			[]string{"kitt", "kitt:latest", "registry.example/tools/kitt:1.7.0", "mykitt@sha256:" + strings.Repeat("a", 64), "registry.example:5000/bench/own:2"},
			[]string{"evil", "evil:kitt", "kitt/evil", "evil:5000/x", "registry.example:5000/bench/own2", "own:1", "sha256:" + strings.Repeat("a", 64), "deadbeef0123",
				"evil@sha256:" + strings.Repeat("a", 64)},
		},
		AutoCleanup:       {[]string{"true"}, nil},
		HeartbeatInterval: {[]string{"60"}, nil},
	} {
		for _, value := range values.good {
			require.NoError(t, p.CheckSetting(setting, value), "%s %q", setting, value)
		}
		for _, value := range values.bad {
			err := p.CheckSetting(setting, value)
			require.Error(t, err, "%s %q", setting, value)
			class, fix := fault.Of(err)
			require.Equal(t, Class, class)
			require.NotEmpty(t, fix)
			require.NoError(t, Policy{}.CheckSetting(setting, value), "a program that limits nothing: %s %q", setting, value)
		}
	}
}

func TestServerMaySet(t *testing.T) {
	t.Parallel()
	p := Default(machine)
	p.ServerMaySet = []string{KITTImage}
	require.NoError(t, p.CheckSetting(KITTImage, "kitt:2"))
	require.EqualError(t, p.CheckSetting(AutoCleanup, "true"),
		"the server may not set it (to allow it, add to agent.yaml: policy: {server_may_set: [kitt_image, auto_cleanup]})")
	p.ServerMaySet = []string{}
	for _, setting := range Settings() {
		require.Error(t, p.CheckSetting(setting, "x"))
	}
}

func TestOwnersLists(t *testing.T) {
	t.Parallel()
	p := Default(machine)
	p.StorageDirs = []string{"/models", "~/more"}
	p.Shares = []string{"nas*.example:/models/*"}
	p.Images = []string{"registry.example/*:1.*", "local/bench", "kitt@sha256:" + strings.Repeat("b", 64)}
	require.NoError(t, p.Validate())
	for setting, values := range map[string]struct{ good, bad []string }{
		ModelStorageDir:  {[]string{"/models", "/models/a", "/var/lib/kitt-agent/more"}, []string{"/data/models", "/models2", "/models/.x"}},
		ModelShareSource: {[]string{"nas1.example:/models/a/b"}, []string{"nas1.example:/other", "nas:/models/a", "nas.evil:/x.example:/models/a", "evil:/nas.example:/models/a"}},
		KITTImage: {[]string{"registry.example/a/b:1.8", "local/bench", "local/bench:x", "kitt@sha256:" + strings.Repeat("b", 64)},
			[]string{"registry.example/a", "registry.example/a:2", "evil/local/bench", "kitt", "kitt:latest", "kitt@sha256:" + strings.Repeat("a", 64), "evil:1.0"}},
	} {
		for _, value := range values.good {
			require.NoError(t, p.CheckSetting(setting, value), "%s %q", setting, value)
		}
		for _, value := range values.bad {
			require.Error(t, p.CheckSetting(setting, value), "%s %q", setting, value)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Policy{}.Validate())
	require.NoError(t, Default(machine).Validate())
	err := Policy{ServerMaySet: []string{"token"}, StorageDirs: []string{"models"}, Shares: []string{"nas"}, MountDirs: []string{"x"}, ModelDirs: []string{"/a/../b"},
		Images: []string{"a/UPPER"}}.Validate()
	for _, field := range []string{"ServerMaySet", "StorageDirs", "Shares", "MountDirs", "ModelDirs", "Images"} {
		require.ErrorContains(t, err, field)
	}
}

func TestTheLineToAddIsYAML(t *testing.T) {
	t.Parallel()
	err := Default(machine).CheckSetting(ModelStorageDir, "/x y/[m], z: #")
	require.ErrorContains(t, err, `storage_dirs: ["/x y/[m], z: #"]`)
}

func FuzzServersDirectory(f *testing.F) {
	for _, seed := range []string{"/data/m", "~/.ssh", "/srv//x/./y", "/home/a/../../etc", "~", "/var/lib/kitt/x"} {
		f.Add(seed)
	}
	p := Default(machine)
	f.Fuzz(func(t *testing.T, value string) {
		if rules.Path(value) != nil || p.CheckSetting(ModelStorageDir, value) != nil {
			return
		}
		at := p.expand(value)
		require.Equal(t, path.Clean(at), at)
		require.NotEqual(t, p.home(), at)
		if base.Within("/var/lib/kitt-agent/.kitt/models", at) {
			return
		}
		require.NotContains(t, at, "/.")
		require.True(t, strings.HasPrefix(at, "/home/") || strings.HasPrefix(at, "/data/") || strings.HasPrefix(at, "/srv/") || strings.HasPrefix(at, "/mnt/") ||
			strings.HasPrefix(at, "/media/") || strings.HasPrefix(at, "/var/lib/"), at)
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b*c", "axbxc")
	f.Add("*kitt", "kitt")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if glob(pattern, text) {
			rest := text
			for part := range strings.SplitSeq(pattern, "*") {
				_, after, ok := strings.Cut(rest, part)
				require.True(t, ok, "the parts of %q are in %q one after another", pattern, text)
				rest = after
			}
		}
		require.True(t, glob("*", text))
		require.True(t, glob(strings.ReplaceAll(text, "*", ""), strings.ReplaceAll(text, "*", "")))
	})
}
