package policy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
)

// place is a directory below which the server may choose, and a policy that says so.
func place(t *testing.T) (Policy, func(name string) string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"allowed", "outside/empty", "home", "home/.kitt/jobs"} {
		require.NoError(t, os.MkdirAll(at(dir), 0o755))
	}
	p := Default(Machine{StorageDir: at("own"), Dir: at("home/.kitt"), Home: at("home")})
	p.StorageDirs, p.MountDirs, p.ModelDirs = []string{at("allowed") + "/"}, []string{at("allowed")}, []string{at("allowed")}
	return p, at
}

func TestOpenStorageDir(t *testing.T) {
	t.Parallel()
	p, at := place(t)
	for _, dir := range []string{"allowed/used/.kitt/copies", "allowed/empty", "allowed/disk/lost+found", "allowed/parent", "allowed/full", "allowed/agent/.kitt/jobs", "own", "outside/empty"} {
		require.NoError(t, os.MkdirAll(at(dir), 0o755))
	}
	for _, file := range []string{"allowed/full/file", "own/file", "allowed/used/file"} {
		require.NoError(t, os.WriteFile(at(file), nil, 0o644))
	}
	require.NoError(t, os.Symlink("empty", at("allowed/inside")))
	require.NoError(t, os.Symlink("parent", at("allowed/above-it")))
	require.NoError(t, os.Symlink(at("outside/empty"), at("allowed/out")))
	require.NoError(t, os.Symlink("../outside", at("allowed/above")))
	require.NoError(t, os.Symlink("loop", at("allowed/loop")))
	require.NoError(t, os.Symlink("../home", at("allowed/home")))
	require.NoError(t, os.Symlink(at("outside/nothing"), at("allowed/dangling")))
	for name, good := range map[string]bool{
		"own": true, "allowed/used": true, "allowed/empty": true, "allowed/disk": true, "allowed/inside": true, "allowed/new": true, "allowed/a/b/c": true, "allowed/above-it/new": true,
		"allowed/full": false, "allowed/agent": false, "allowed/out": false, "allowed/above/empty": false, "allowed/above/new": false, "allowed/loop": false,
		"allowed/loop/x": false, "allowed/home/new": false, "allowed/home/.kitt/jobs": false, "allowed/dangling": false, "allowed/dangling/x": false, "allowed/full/file": false,
		"outside/empty": false, "allowed": false,
	} {
		checked := p.CheckStorageDir(at(name))
		root, dir, err := p.OpenStorageDir(at(name), true)
		if !good {
			require.Error(t, checked, name)
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, checked, name)
		require.NoError(t, err, name)
		real, err := filepath.EvalSymlinks(at(name))
		require.NoError(t, err)
		require.Equal(t, real, dir)
		require.NoError(t, root.Close())
	}
	require.NoDirExists(t, at("outside/new"))
	require.NoDirExists(t, at("outside/nothing"))
	require.NoDirExists(t, at("home/new"))
	_, _, err := p.OpenStorageDir(at("allowed/absent"), false)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestDirectoryBelowOneThatDoesNotExist has the directory that the policy names missing
// too: it is made.
func TestDirectoryBelowOneThatDoesNotExist(t *testing.T) {
	t.Parallel()
	p, at := place(t)
	p.StorageDirs = []string{at("data") + "/"}
	require.NoError(t, p.CheckStorageDir(at("data/models")))
	root, dir, err := p.OpenStorageDir(at("data/models"), true)
	require.NoError(t, err)
	require.NoError(t, root.Close())
	require.Equal(t, at("data/models"), dir)
}

func TestOtherUsersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make directories of other users")
	}
	p, at := place(t)
	require.NoError(t, os.Mkdir(at("allowed/theirs"), 0o777))
	require.NoError(t, os.Chown(at("allowed/theirs"), 65534, 65534))
	for _, name := range []string{"allowed/theirs", "allowed/theirs/new"} {
		require.ErrorContains(t, p.CheckStorageDir(at(name)), "belongs to another user")
		_, _, err := p.OpenStorageDir(at(name), true)
		require.ErrorContains(t, err, "belongs to another user")
	}
	require.NoError(t, os.MkdirAll(at("allowed/marked/.kitt/copies"), 0o755))
	require.NoError(t, os.Chown(at("allowed/marked/.kitt/copies"), 65534, 65534))
	require.ErrorContains(t, p.CheckStorageDir(at("allowed/marked")), "holds files", "somebody else's mark")
	p.StorageDirs = append(p.StorageDirs, at("allowed/theirs"))
	require.NoError(t, p.CheckStorageDir(at("allowed/theirs")), "the owner listed it")
}

// A neighbour puts a link in the place of the directory while the agent opens it.
func TestDirectoryReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	p, at := place(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for swaps := 0; err == nil; swaps++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			link := at("allowed/link")
			err = errors.Join(os.Symlink(at("outside/empty"), link), os.Rename(link, at("allowed/x")), os.Remove(at("allowed/x")), os.Mkdir(at("allowed/x"), 0o755), os.Remove(at("allowed/x")))
		}
		done <- err
	}()
	for range 2000 {
		root, dir, err := p.OpenStorageDir(at("allowed/x"), false)
		if err != nil {
			continue
		}
		held, err := root.Stat(".")
		require.NoError(t, err)
		outside, err := os.Stat(at("outside/empty"))
		require.NoError(t, err)
		require.False(t, os.SameFile(held, outside), "opened %s", dir)
		require.NoError(t, root.Close())
	}
	close(stop)
	require.NoError(t, <-done)
}

func TestCheckShareMount(t *testing.T) {
	t.Parallel()
	p, at := place(t)
	require.NoError(t, os.Mkdir(at("allowed/share"), 0o755))
	require.NoError(t, os.Symlink("share", at("allowed/link")))
	require.NoError(t, os.Symlink("../outside/empty", at("allowed/out")))
	require.NoError(t, os.Symlink("../home", at("allowed/home")))
	for _, name := range []string{"allowed/share", "allowed/link", "allowed/absent"} {
		require.NoError(t, p.CheckShareMount(at(name)), name)
	}
	for _, name := range []string{"allowed", "allowed/out", "allowed/home", "allowed/home/.kitt", "outside/empty"} {
		err := p.CheckShareMount(at(name))
		class, fix := fault.Of(err)
		require.Equal(t, Class, class, name)
		require.Contains(t, fix, "model_share_mount")
	}
	p.Machine.ShareMount = at("allowed/out")
	require.NoError(t, p.CheckShareMount(at("allowed/out")), "the owner's link")
}

func TestCheckModel(t *testing.T) {
	t.Parallel()
	p, at := place(t)
	require.NoError(t, os.Symlink("allowed", at("alias")))
	p.ModelDirs = []string{at("alias")}
	for _, name := range []string{at("allowed"), at("allowed/m"), at("own/m")} {
		require.NoError(t, p.CheckModel(name), name)
	}
	for _, name := range []string{"/etc/shadow", "/proc/self/environ", "/sys/x", "/dev/sda", "/dev", at("outside/m"), at("allowed2"), at("home/.kitt/agent.yaml"), at("home/.kitt")} {
		require.Error(t, p.CheckModel(name), name)
	}
	var none Policy
	require.NoError(t, none.CheckModel("/anywhere/m"))
	require.Error(t, none.CheckModel("/proc/self/environ"), "costs no program anything")
}
