package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

func shareOf(t *testing.T, mount, source string, command commandRunner) (*Local, string) {
	t.Helper()
	dir := t.TempDir()
	l, err := New(Config{Settings: Settings{Dir: filepath.Join(dir, "models"), ShareMount: mount, ShareSource: source}, ShareTimeout: time.Second})
	require.NoError(t, err)
	l.mounter.command, l.mounter.root = command, false
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, filepath.Join(dir, "models")
}

func TestMountsTheShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		works string // the command that mounts
		want  []string
	}{
		{"through fstab", "mount", []string{"mount --target DIR"}},
		{"with sudo", "sudo", []string{"mount --target DIR", "sudo -n mount -t nfs -o ro,nosuid,nodev,noexec -- nas:/models DIR"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mount := t.TempDir()
			var ran []string
			l, dir := shareOf(t, mount, "nas:/models", func(_ context.Context, name string, args ...string) ([]byte, error) {
				ran = append(ran, strings.ReplaceAll(strings.Join(append([]string{name}, args...), " "), mount, "DIR"))
				if name != tt.works {
					return []byte("mount: only root can do that\n"), errors.New("exit status 1")
				}
				return nil, os.WriteFile(filepath.Join(mount, "m.gguf"), []byte("1"), 0o644)
			})
			lease, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
			require.NoError(t, err)
			require.Equal(t, filepath.Join(dir, "m.gguf"), lease.Path)
			require.Equal(t, tt.want, ran)
			_, err = l.Acquire(t.Context(), Request{Model: "absent.gguf", Holder: "j"})
			require.ErrorIs(t, err, ErrNotFound)
			require.Equal(t, tt.want, ran, "content present counts as mounted")
			var log strings.Builder
			_, err = l.Acquire(t.Context(), Request{Model: "absent.gguf", Holder: "j", Log: &log})
			require.ErrorIs(t, err, ErrNotFound)
			require.Contains(t, log.String(), "warning: nas:/models is not mounted at "+mount, "but not in silence")
		})
	}
}

func TestMakesTheMountPoint(t *testing.T) {
	t.Parallel()
	model := func(mount string) error {
		return os.WriteFile(filepath.Join(mount, "m.gguf"), []byte("1"), 0o644)
	}
	t.Run("by itself", func(t *testing.T) {
		t.Parallel()
		mount := filepath.Join(t.TempDir(), "models")
		l, dir := shareOf(t, mount, "nas:/models", func(context.Context, string, ...string) ([]byte, error) { return nil, model(mount) })
		l.mounter.parents = []string{filepath.Dir(mount)}
		lease, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
		require.NoError(t, err)
		require.Equal(t, filepath.Join(dir, "m.gguf"), lease.Path)
	})
	t.Run("with sudo", func(t *testing.T) {
		t.Parallel()
		// What is in the way of a directory here stands for the lack of a right.
		parent := filepath.Join(t.TempDir(), "mnt")
		require.NoError(t, os.Symlink("away", parent))
		mount := filepath.Join(parent, "models")
		var ran []string
		l, _ := shareOf(t, mount, "nas:/models", func(_ context.Context, name string, args ...string) ([]byte, error) {
			ran = append(ran, strings.ReplaceAll(strings.Join(append([]string{name}, args...), " "), mount, "DIR"))
			if name == "mount" {
				return nil, model(mount)
			}
			return nil, errors.Join(os.Remove(parent), os.MkdirAll(mount, 0o755))
		})
		l.mounter.parents = []string{parent}
		_, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
		require.NoError(t, err)
		require.Equal(t, []string{"sudo -n mkdir -- DIR", "mount --target DIR"}, ran)
	})
	t.Run("not at all", func(t *testing.T) {
		t.Parallel()
		parent := filepath.Join(t.TempDir(), "mnt")
		require.NoError(t, os.Symlink("away", parent))
		l, _ := shareOf(t, filepath.Join(parent, "models"), "nas:/models", func(context.Context, string, ...string) ([]byte, error) {
			return []byte("sudo: a password is required"), errors.New("exit status 1")
		})
		l.mounter.parents = []string{parent}
		var log strings.Builder
		_, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j", Log: &log})
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok, err)
		require.Equal(t, ClassUnmounted, e.Class)
		require.Contains(t, e.Fix, "sudo mkdir -p ")
		require.Contains(t, log.String(), "could not make it: sudo: a password is required")
	})
	t.Run("only where mount points are", func(t *testing.T) {
		t.Parallel()
		mount := filepath.Join(t.TempDir(), "models")
		l, _ := shareOf(t, mount, "nas:/models", func(context.Context, string, ...string) ([]byte, error) {
			t.Error("nothing is to be run")
			return nil, nil
		})
		require.Equal(t, []string{"/mnt", "/media", "/srv"}, l.mounter.parents)
		_, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
		require.Equal(t, ClassUnmounted, iofault.ClassOf(err))
		require.NoDirExists(t, mount)
	})
}

func TestShareThatCannotBeMounted(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	l, _ := shareOf(t, mount, "nas:/my models", func(context.Context, string, ...string) ([]byte, error) {
		return []byte("no such device"), errors.New("exit status 32")
	})
	var log strings.Builder
	_, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j", Log: &log})
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok, err)
	require.Equal(t, ClassUnmounted, e.Class)
	require.Equal(t, `add this line to /etc/fstab: nas:/my\040models  `+mount+"  nfs  ro,nosuid,nodev,noexec,nofail,user  0  0", e.Fix)
	require.Contains(t, log.String(), "could not mount the share: mount --target "+mount+": no such device")

	lease, err := l.Acquire(t.Context(), Request{Model: "qwen2.5:7b", Holder: "j"})
	require.NoError(t, err)
	require.Equal(t, OriginIdentifier, lease.Origin)

	missing, _ := shareOf(t, filepath.Join(mount, "absent"), "", nil)
	_, err = missing.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
	require.Equal(t, ClassUnmounted, iofault.ClassOf(err))
	file := filepath.Join(mount, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	wrong, _ := shareOf(t, file, "", nil)
	_, err = wrong.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
	require.Equal(t, ClassSettings, iofault.ClassOf(err))
}

// TestCancelIsNotAFailureOfTheShare cancels while the share is examined.
func TestCancelIsNotAFailureOfTheShare(t *testing.T) {
	t.Parallel()
	l, _ := shareOf(t, t.TempDir(), "", nil)
	began, hold, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- l.watchdog.probe(t.Context(), l.current().ShareMount, &opStat, "", func() error { close(began); <-hold; return nil })
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := l.Acquire(ctx, Request{Model: "m", Holder: "j"})
	require.Equal(t, context.DeadlineExceeded, err, "it waits for the other probe of the share until then")
	close(hold)
	require.NoError(t, <-ended)
}

func TestMountCommandThatHangs(t *testing.T) {
	t.Parallel()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	out, err := runCommand(ctx, "sh", "-c", "echo begun; sleep 60 & wait")
	require.Error(t, err)
	require.Equal(t, "begun\n", string(out))
	require.Less(t, time.Since(start), 10*time.Second)
}

func TestHungShareIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newWatchdog(30 * time.Second)
		wake := make(chan struct{})
		opRead, path := "read", "weights"
		start := time.Now()
		late := false
		err := g.run(t.Context(), "/mnt", 2, func(ctx context.Context, timers []*opTimer) error {
			timers[1].Begin(&opRead, &path)
			<-wake
			late = ctx.Err() != nil
			return nil
		})
		require.Equal(t, ClassHung, iofault.ClassOf(err))
		require.Contains(t, err.Error(), `read "weights" took longer than 30s`)
		require.InDelta(t, 30, time.Since(start).Seconds(), 3)

		start = time.Now()
		err = g.probe(t.Context(), "/mnt", &opStat, "/mnt", func() error { t.Error("started on a share that hangs"); return nil })
		require.Equal(t, ClassHung, iofault.ClassOf(err))
		require.Zero(t, time.Since(start))
		require.NoError(t, g.probe(t.Context(), "/other", &opStat, "/other", func() error { return nil }))

		close(wake)
		synctest.Wait()
		require.True(t, late, "an abandoned run sees that its context is done")
		require.NoError(t, g.probe(t.Context(), "/mnt", &opStat, "/mnt", func() error { return nil }))
	})
}

func TestOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newWatchdog(time.Minute)
		at, most := 0, 0
		ended := make(chan error, 5)
		for range cap(ended) {
			go func() {
				ended <- g.probe(t.Context(), "/mnt", &opStat, "/mnt", func() error {
					at++
					most = max(most, at)
					time.Sleep(time.Second) // in synctest's time
					at--
					return nil
				})
			}()
		}
		for range cap(ended) {
			require.NoError(t, <-ended)
		}
		require.Equal(t, 1, most)
	})
}

func TestRebootBeforeTheCopyWasDurable(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(share, "m.gguf"), []byte("weights"), 0o644))
	l, dir := shareOf(t, share, "", nil)
	lease, err := l.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j"})
	require.NoError(t, err)
	require.NoError(t, lease.Release())
	require.NoError(t, l.Close())

	// As after a power cut: another boot, no marker, zeros in the file.
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	name := p.copies.manifest("m.gguf")
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(data), base.BootID(), "another", 1)), 0o644))
	require.NoError(t, os.Remove(p.copies.durable("m.gguf")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m.gguf"), make([]byte, 7), 0o644))
	require.NoError(t, p.root.Close())

	next, err := New(Config{Settings: Settings{Dir: dir, ShareMount: share}})
	require.NoError(t, err)
	var log strings.Builder
	_, err = next.Acquire(t.Context(), Request{Model: "m.gguf", Holder: "j", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), "was damaged by the restart")
	got, err := os.ReadFile(filepath.Join(dir, "m.gguf"))
	require.NoError(t, err)
	require.Equal(t, "weights", string(got))
	require.NoError(t, next.Close())
}

func TestInterruptedRemovalIsResumed(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(share, "m"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(share, "m/w"), []byte("weights"), 0o644))
	for _, hidden := range []bool{false, true} {
		l, dir := shareOf(t, share, "", nil)
		lease, err := l.Acquire(t.Context(), Request{Model: "m", Holder: "j"})
		require.NoError(t, err)
		require.NoError(t, lease.Release())
		require.NoError(t, l.Close())
		p, err := openModelDir(dir, realDisk)
		require.NoError(t, err)
		require.NoError(t, os.Rename(p.copies.manifest("m"), p.copies.removing("m")))
		if hidden {
			require.NoError(t, os.Rename(p.abs("m"), p.trash("m")))
		}
		require.NoError(t, p.root.Close())

		next, err := New(Config{Settings: Settings{Dir: dir, ShareMount: share}})
		require.NoError(t, err)
		list, err := next.List(t.Context())
		require.NoError(t, err)
		if hidden {
			require.Empty(t, list)
			require.NoDirExists(t, p.trash("m"))
		} else {
			require.Len(t, list, 1, "still the storage's, so that it can be removed")
		}
		require.NoError(t, next.Close())
	}
}

// openModelDir opens a storage directory that exists.
func openModelDir(name string, d disk) (*modelDir, error) {
	root, dir, err := findDir(name, false)
	if err != nil {
		return nil, err
	}
	return newModelDir(name, dir, root, d), nil
}
