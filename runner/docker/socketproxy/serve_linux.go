package socketproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	maxLog     = 1 << 20     // bytes of refusals that are kept
	aliveEvery = time.Minute // between two looks whether the job's directory is still there
	headLimit  = 30 * time.Second
	maxHead    = 64 << 10 // bytes of a request's head
)

// serve serves the socket in dir until a signal ends it, and says on ready that it does.
func serve(dir string, ready *os.File) error {
	// The process shares the machine with the benchmark.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(20)
	unix.CloseOnExec(lockFD)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	err := serveUntil(ctx, dir, func() error {
		_, err := io.WriteString(ready, readyWord)
		return errors.Join(err, ready.Close())
	})
	if err != nil {
		fmt.Fprint(ready, err) // an error if it is closed, and then the log has it
	}
	return err
}

// serveUntil serves until ctx is done, and calls ready once it does.
func serveUntil(ctx context.Context, dir string, ready func() error) error {
	policy, err := readPolicy(filepath.Join(dir, policyFile))
	if err != nil {
		return err
	}
	log := &boundedLog{to: os.Stderr, left: maxLog}
	proxy, err := New(policy, log.add)
	if err != nil {
		return err
	}
	defer proxy.Close()
	if err := writeState(dir); err != nil {
		return err
	}
	listener, err := listen(SocketDir(dir))
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { whileThere(ctx, filepath.Join(dir, lockFile), cancel) })
	return serveOn(ctx, listener, proxy)
}

// serveOn serves on a listener until ctx is done. Then it ends what streams, and lets
// the creations that the engine has begun come to their end.
func serveOn(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headLimit, MaxHeaderBytes: maxHead,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), createLimit)
		defer cancel()
		ended <- server.Shutdown(limit)
	})
	err := server.Serve(listener)
	if stop() {
		return err // it failed
	}
	return <-ended
}

// listen makes the socket in a directory, which any user may connect to who can reach
// it. The directory is named by a descriptor: its own path may be too long for a socket.
func listen(dir string) (net.Listener, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", dir, err)
	}
	listener.SetUnlinkOnClose(false) // by a path that is gone; End removes it
	return listener, errors.Join(os.Chmod(path, 0o666))
}

// whileThere calls gone once there is no file at path any more: the job was removed.
func whileThere(ctx context.Context, path string, gone func()) {
	for base.Wait(ctx, aliveEvery) == nil {
		if !base.Exists(path) {
			gone()
			return
		}
	}
}
