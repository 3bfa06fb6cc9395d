package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage"
)

// childEnv makes the test binary an agent that copies a model, to be killed.
const childEnv = "KITT_STORAGE_CHILD"

func TestMain(m *testing.M) {
	if env := os.Getenv(childEnv); env != "" {
		dir, mnt, _ := strings.Cut(env, "\n")
		l, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: mnt}})
		if err == nil {
			_, err = l.Acquire(context.Background(), storage.Request{Model: "m", Holder: "j"})
		}
		fmt.Println("ended", err)
		return
	}
	os.Exit(m.Run())
}

// serve mounts s for a test and returns the directory behind it and the mount.
func serve(t testing.TB, s *share) (dir, mnt string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("SKIPPED: no FUSE here: ", err)
	}
	dir, mnt = t.TempDir(), t.TempDir()
	server, err := s.mount(dir, mnt)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EPERM) {
		t.Skip("SKIPPED: FUSE mounts are not permitted here: ", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(mnt, syscall.MNT_DETACH)); server.Wait() })
	return dir, mnt
}

func random(t testing.TB, name string, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, data, 0o644))
}

func open(t testing.TB, mnt string) (*storage.Local, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "models")
	l, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: mnt}, ShareTimeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, dir
}

// startChild starts an agent of its own process that copies the model m.
func startChild(t testing.TB, models, mnt string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+models+"\n"+mnt)
	require.NoError(t, cmd.Start())
	return cmd
}

func TestKilledCopyReadsTheShareOnce(t *testing.T) {
	// What a kill costs is what was in flight, some MiB, whatever the model's
	// size: of a model of few MiB it is a larger part.
	for _, size := range []int{64 << 20, 256 << 20} {
		s := &share{latency: time.Millisecond, limit: 20_000_000}
		dir, mnt := serve(t, s)
		random(t, filepath.Join(dir, "m/one.safetensors"), size/2)
		random(t, filepath.Join(dir, "m/two.safetensors"), size/2)
		for i := range 20 {
			random(t, filepath.Join(dir, "m", fmt.Sprint("small", i)), 1000)
		}
		l, models := open(t, mnt)
		for kill := 1; kill <= 2; kill++ {
			cmd := startChild(t, models, mnt)
			require.Eventually(t, func() bool { return s.read.Load() > int64(size*kill/3) }, time.Minute, time.Millisecond)
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
		}
		_, err := os.Stat(filepath.Join(models, "m"))
		require.ErrorIs(t, err, os.ErrNotExist)
		_, err = l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
		require.NoError(t, err)
		ratio := float64(s.read.Load()) / float64(size)
		t.Logf("%d MiB, killed twice: %.3f x the model was read", size>>20, ratio)
		require.LessOrEqual(t, ratio, 1.1)

		before := s.read.Load()
		_, err = l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "second"})
		require.NoError(t, err)
		require.Equal(t, before, s.read.Load(), "a second job reads nothing")
	}
}

func TestFaultsOfTheShare(t *testing.T) {
	var fails, looks atomic.Int64
	for _, tt := range []struct {
		name  string
		fault func(op, path string, off int64) syscall.Errno
		class string // empty: it is overcome
	}{
		{"ESTALE once", func(op, path string, _ int64) syscall.Errno {
			if op == "read" && strings.HasSuffix(path, "w") && fails.Add(1) == 1 {
				return syscall.ESTALE
			}
			return 0
		}, ""},
		{"ESTALE for good", func(op, _ string, _ int64) syscall.Errno {
			if op == "read" {
				return syscall.ESTALE
			}
			return 0
		}, storage.ClassStale},
		{"ESTALE once at a look", func(op, path string, _ int64) syscall.Errno {
			if op == "lookup" && strings.HasSuffix(path, "w") && looks.Add(1) == 1 {
				return syscall.ESTALE
			}
			return 0
		}, ""},
		{"ESTALE at each opening", func(op, path string, _ int64) syscall.Errno {
			if op == "open" {
				return syscall.ESTALE
			}
			return 0
		}, storage.ClassStale},
		{"ESTALE at each listing", func(op, path string, _ int64) syscall.Errno {
			if op == "opendir" && strings.HasSuffix(path, "m") {
				return syscall.ESTALE
			}
			return 0
		}, storage.ClassStale},
		{"EACCES", func(op, _ string, _ int64) syscall.Errno {
			if op == "open" {
				return syscall.EACCES
			}
			return 0
		}, storage.ClassPermission},
		{"EIO", func(op, _ string, off int64) syscall.Errno {
			if op == "read" && off >= 4<<20 {
				return syscall.EIO
			}
			return 0
		}, storage.ClassIO},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &share{fault: tt.fault}
			dir, mnt := serve(t, s)
			random(t, filepath.Join(dir, "m/w"), 8<<20)
			l, models := open(t, mnt)
			_, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
			if tt.class == "" {
				require.NoError(t, err)
				return
			}
			e, ok := errors.AsType[*storage.Error](err)
			require.True(t, ok, err)
			require.Equal(t, tt.class, e.Class, err)
			require.NotContains(t, e.Error(), "\n")
			_, err = os.Stat(filepath.Join(models, "m"))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestShareThatHangs(t *testing.T) {
	for _, where := range []string{"read", "getattr", "opendir", "open"} {
		t.Run(where, func(t *testing.T) {
			wake := make(chan struct{})
			var hanging atomic.Bool
			s := &share{fault: func(op, path string, _ int64) syscall.Errno {
				if op == where && hanging.Load() && (path != "" || op == "getattr") {
					<-wake
				}
				return 0
			}}
			dir, mnt := serve(t, s)
			random(t, filepath.Join(dir, "m/w"), 8<<20)
			l, _ := open(t, mnt)
			hanging.Store(true)
			for range 2 {
				start := time.Now()
				_, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
				require.Error(t, err)
				require.Less(t, time.Since(start), 8*time.Second)
				e, ok := errors.AsType[*storage.Error](err)
				require.True(t, ok, err)
				require.Equal(t, storage.ClassHung, e.Class, err)
				_, err = l.Usage(t.Context())
				require.NoError(t, err, "the heartbeat goes on")
			}
			hanging.Store(false)
			close(wake)
			require.Eventually(t, func() bool {
				_, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
				return err == nil
			}, 10*time.Second, 50*time.Millisecond)
		})
	}
}

// TestSourceThatChangesWhileItIsRead changes the model at the first read, and in
// a second case at every look, so that it never holds still.
func TestSourceThatChangesWhileItIsRead(t *testing.T) {
	const size = 8 << 20
	resize := func(to int64) func(dir string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, "m/w"), to) }
	}
	for _, tt := range []struct {
		name   string
		change func(dir string) error
	}{
		{"shrinks", resize(1 << 20)},
		{"grows", resize(size + 4096)},
		{"is emptied", resize(0)},
		{"is replaced", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "m/new"), make([]byte, size), 0o644); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, "m/new"), filepath.Join(dir, "m/w"))
		}},
		{"gets a neighbour", func(dir string) error { return os.WriteFile(filepath.Join(dir, "m/z"), []byte("z"), 0o644) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dir string
			var once atomic.Bool
			s := &share{}
			s.fault = func(op, _ string, _ int64) syscall.Errno {
				if op == "read" && once.CompareAndSwap(false, true) && tt.change(dir) != nil {
					return syscall.EPROTO
				}
				return 0
			}
			var mnt string
			dir, mnt = serve(t, s)
			random(t, filepath.Join(dir, "m/w"), size)
			l, _ := open(t, mnt)
			var log strings.Builder
			lease, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j", Log: &log})
			require.NoError(t, err)
			require.Contains(t, log.String(), "once more")
			want, err := os.ReadFile(filepath.Join(dir, "m/w"))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(lease.Path, "w"))
			require.NoError(t, err)
			require.True(t, string(want) == string(got), "%d and %d bytes", len(want), len(got))
		})
	}

	var dir string
	s := &share{}
	s.fault = func(op, _ string, _ int64) syscall.Errno {
		if op == "read" {
			f, err := os.OpenFile(filepath.Join(dir, "m/w"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return syscall.EPROTO
			}
			_, err = f.WriteString("more")
			if errors.Join(err, f.Close()) != nil {
				return syscall.EPROTO
			}
		}
		return 0
	}
	var mnt string
	dir, mnt = serve(t, s)
	random(t, filepath.Join(dir, "m/w"), size)
	l, models := open(t, mnt)
	_, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	e, ok := errors.AsType[*storage.Error](err)
	require.True(t, ok, err)
	require.Equal(t, storage.ClassChanged, e.Class, err)
	_, err = os.Stat(filepath.Join(models, "m"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestTwoProcessesReadTheShareOnce has two agents want one model, and kills the
// one that copies it.
func TestTwoProcessesReadTheShareOnce(t *testing.T) {
	const size = 64 << 20
	s := &share{latency: time.Millisecond, limit: 20_000_000}
	dir, mnt := serve(t, s)
	random(t, filepath.Join(dir, "m/one.weights"), size/2)
	random(t, filepath.Join(dir, "m/two.weights"), size/2)
	l, models := open(t, mnt)
	first := startChild(t, models, mnt)
	require.Eventually(t, func() bool { return s.read.Load() > size/4 }, time.Minute, time.Millisecond)
	ended := make(chan error, 1)
	go func() {
		_, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "other"})
		ended <- err
	}()
	require.Eventually(t, func() bool { return s.read.Load() > size/2 }, time.Minute, time.Millisecond)
	require.NoError(t, first.Process.Kill())
	require.Error(t, first.Wait())
	require.NoError(t, <-ended)
	ratio := float64(s.read.Load()) / size
	t.Logf("%.3f x the model was read", ratio)
	require.LessOrEqual(t, ratio, 1.1)
}
