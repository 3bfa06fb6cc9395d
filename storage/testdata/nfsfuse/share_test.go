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
		exe, err := os.Executable()
		require.NoError(t, err)
		for kill := 1; kill <= 2; kill++ {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), childEnv+"="+models+"\n"+mnt)
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool { return s.read.Load() > int64(size*kill/3) }, time.Minute, time.Millisecond)
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
		}
		_, err = os.Stat(filepath.Join(models, "m"))
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
	var fails atomic.Int64
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
			require.Equal(t, tt.class, e.Class(), err)
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
				require.Equal(t, storage.ClassHung, e.Class(), err)
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

func TestFileThatShrinks(t *testing.T) {
	var dir string
	var once atomic.Bool
	s := &share{}
	s.fault = func(op, _ string, off int64) syscall.Errno {
		if op == "read" && once.CompareAndSwap(false, true) {
			return shrink(filepath.Join(dir, "m/w"))
		}
		return 0
	}
	var mnt string
	dir, mnt = serve(t, s)
	random(t, filepath.Join(dir, "m/w"), 8<<20)
	l, _ := open(t, mnt)
	var log strings.Builder
	lease, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), "once more")
	info, err := os.Stat(filepath.Join(lease.Path, "w"))
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), info.Size())
}

func shrink(name string) syscall.Errno {
	if err := os.Truncate(name, 1<<20); err != nil {
		return syscall.EIO
	}
	return 0
}
