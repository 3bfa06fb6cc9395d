package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A mountCase is a machine whose mount points are below mnt, with a directory
// programs next to that, and the commands that the storage ran.
type mountCase struct {
	l             *Local
	mnt, programs string
	ran           []string
}

func newMountCase(t *testing.T, own string) *mountCase {
	t.Helper()
	top := t.TempDir()
	c := &mountCase{mnt: filepath.Join(top, "mnt"), programs: filepath.Join(top, "programs")}
	require.NoError(t, os.Mkdir(c.mnt, 0o755))
	require.NoError(t, os.Mkdir(c.programs, 0o755))
	if own != "" {
		own = filepath.Join(top, own)
		require.NoError(t, os.MkdirAll(own, 0o755))
	}
	c.l, _ = shareOf(t, own, "", func(_ context.Context, name string, args ...string) ([]byte, error) {
		c.ran = append(c.ran, strings.ReplaceAll(strings.Join(append([]string{name}, args...), " "), top, ""))
		return []byte("no"), errors.New("exit status 1")
	})
	c.l.mounter.parents = []string{c.mnt}
	return c
}

// ask configures what the server asks for and fetches a model.
func (c *mountCase) ask(t *testing.T, mount string) *Error {
	t.Helper()
	settings := c.l.Settings()
	settings.ShareMount, settings.ShareSource = mount, "nas:/models"
	require.NoError(t, c.l.Configure(settings))
	_, err := c.l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok, err)
	return e
}

// The server names where the share is mounted. An empty directory of programs is
// as good as any other to mount(8).
func TestServerMountsOnlyWhereMountPointsAre(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(c *mountCase) (mount string, err error){
		"another place":  func(c *mountCase) (string, error) { return c.programs, nil },
		"one not there":  func(c *mountCase) (string, error) { return filepath.Join(c.programs, "new"), nil },
		"the parent":     func(c *mountCase) (string, error) { return c.mnt, nil },
		"a similar name": func(c *mountCase) (string, error) { return c.mnt + "2", os.Mkdir(c.mnt+"2", 0o755) },
		"through dots":   func(c *mountCase) (string, error) { return c.mnt + "/../programs", nil },
		"a link": func(c *mountCase) (string, error) {
			return filepath.Join(c.mnt, "x"), os.Symlink(c.programs, filepath.Join(c.mnt, "x"))
		},
		"a relative link": func(c *mountCase) (string, error) {
			return filepath.Join(c.mnt, "x"), os.Symlink("../programs", filepath.Join(c.mnt, "x"))
		},
		"a link on the way": func(c *mountCase) (string, error) {
			return filepath.Join(c.mnt, "x", "sbin"), errors.Join(os.Mkdir(filepath.Join(c.programs, "sbin"), 0o755),
				os.Symlink(c.programs, filepath.Join(c.mnt, "x")))
		},
		"a link to the parent": func(c *mountCase) (string, error) {
			return filepath.Join(c.mnt, "x"), os.Symlink(c.mnt+"/.", filepath.Join(c.mnt, "x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newMountCase(t, "")
			mount, err := prepare(c)
			require.NoError(t, err)
			e := c.ask(t, mount)
			require.Empty(t, c.ran)
			if name == "a link to the parent" {
				return // which has the link in it, so it counts as a share
			}
			require.Equal(t, ClassUnmounted, e.Class)
			require.Contains(t, e.Error(), "is not below /mnt, /media or /srv")
			require.Contains(t, e.Fix, "set model_share_mount in agent.yaml to "+filepath.Dir(c.mnt))
			require.NoDirExists(t, filepath.Join(c.programs, "new"))
		})
	}
}

func TestServerMountsBelowMountParents(t *testing.T) {
	t.Parallel()
	const options = " -t nfs -o ro,nosuid,nodev,noexec -- nas:/models "
	c := newMountCase(t, "")
	require.NoError(t, os.MkdirAll(filepath.Join(c.mnt, "deep/models"), 0o755))
	require.NoError(t, os.Symlink("deep/models", filepath.Join(c.mnt, "link")))
	c.ask(t, filepath.Join(c.mnt, "deep/models"))
	require.Equal(t, []string{"mount --target /mnt/deep/models", "sudo -n mount" + options + "/mnt/deep/models"}, c.ran)
	c.ran = nil
	c.ask(t, filepath.Join(c.mnt, "link"))
	require.Equal(t, []string{"mount --target /mnt/deep/models", "sudo -n mount" + options + "/mnt/deep/models"}, c.ran)

	c.ran, c.l.mounter.root = nil, true
	c.ask(t, filepath.Join(c.mnt, "deep/models"))
	require.Equal(t, []string{"mount --target /mnt/deep/models", "mount" + options + "/mnt/deep/models"}, c.ran, "root needs no sudo")
}

// The parent of mount points may be a link that the owner made.
func TestMountParentThatIsALink(t *testing.T) {
	t.Parallel()
	c := newMountCase(t, "")
	require.NoError(t, os.Mkdir(filepath.Join(c.programs, "models"), 0o755))
	link := filepath.Join(filepath.Dir(c.mnt), "srv")
	require.NoError(t, os.Symlink("programs", link))
	c.l.mounter.parents = append(c.l.mounter.parents, link)
	c.ask(t, filepath.Join(link, "models"))
	require.Equal(t, "mount --target /programs/models", c.ran[0])
}

func TestOwnMountPointMayBeAnywhere(t *testing.T) {
	t.Parallel()
	c := newMountCase(t, "data/models")
	own := c.l.mounter.own
	require.Equal(t, ClassUnmounted, c.ask(t, own).Class)
	require.Equal(t, "mount --target /data/models", c.ran[0])
	require.Equal(t, "sudo -n mount -t nfs -o ro,nosuid,nodev,noexec -- nas:/models /data/models", c.ran[1])
	c.ran = nil
	c.ask(t, c.programs)
	require.Empty(t, c.ran)
	c.ask(t, own+"/")
	require.Len(t, c.ran, 2, "the server may go back to it")
}

// Where root may not make the directory sudo may not either.
func TestRootMakesTheMountPointItself(t *testing.T) {
	t.Parallel()
	c := newMountCase(t, "")
	c.l.mounter.root = true
	c.l.mounter.parents = []string{filepath.Join(c.mnt, "absent")}
	settings := c.l.Settings()
	settings.ShareMount, settings.ShareSource = filepath.Join(c.mnt, "absent/models"), "nas:/models"
	require.NoError(t, c.l.Configure(settings))
	var log strings.Builder
	_, err := c.l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j", Log: &log})
	require.Equal(t, ClassUnmounted, iofault.ClassOf(err))
	require.Contains(t, log.String(), "could not make it: mkdir ")
	require.Empty(t, c.ran)
}
