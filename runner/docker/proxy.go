package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// An EngineSocket says which socket of the container engine a benchmark gets.
type EngineSocket string

// The sockets.
const (
	// SocketProxy is one of the job's own, through which the benchmark controls its
	// own containers and nothing else; see package socketproxy.
	SocketProxy EngineSocket = "proxy"

	// SocketHost is the engine's own. Whoever controls the image or what the benchmark
	// is told to do has root on the machine.
	SocketHost EngineSocket = "host"

	// SocketNone gives it none: a benchmark starts no containers, as one does whose
	// engine is in its own image or that asks a server.
	SocketNone EngineSocket = "none"
)

// LabelEngine is the label of the containers that a benchmark starts through its socket
// proxy. Its value is the job's ID.
const LabelEngine = socketproxy.LabelEngine

// proxied reports whether benchmarks get the socket of a proxy.
func (r *Runner) proxied() bool { return r.config.EngineSocket == SocketProxy }

// proxyDir is the directory of a job's socket proxy.
func proxyDir(job runner.Job) string { return filepath.Join(job.Dir, "proxy") }

// hadProxy reports whether a job was given a socket proxy, be it running or not.
func hadProxy(job runner.Job) bool { return base.Exists(proxyDir(job)) }

// endProxy ends the socket proxy of a job whose benchmark was not begun: a program that
// was killed has left it.
func endProxy(ctx context.Context, job runner.Job) error {
	if !hadProxy(job) || claimed(job) {
		return nil
	}
	if err := socketproxy.End(ctx, proxyDir(job)); err != nil {
		return fmt.Errorf("end the socket proxy of an earlier start: %w", err)
	}
	return nil
}

// checkSocket returns why benchmarks can't get a socket.
func (r *Runner) checkSocket() error {
	if host := r.engine.DaemonHost(); r.proxied() && !strings.HasPrefix(host, "unix://") && !strings.HasPrefix(host, "tcp://") {
		return &runner.Error{
			Class: runner.ClassUnavailable,
			Text:  fmt.Sprintf("the socket proxy can't reach the Docker engine at %s: it needs a Unix socket or plain TCP", host),
			Fix:   "use the engine's own socket, or set policy.engine_socket: host in agent.yaml",
			Err:   runner.ErrUnavailable,
		}
	}
	return nil
}

// findProxy returns the program of the socket proxy, if benchmarks get one.
func (r *Runner) findProxy(ctx context.Context) (program.Program, error) {
	if !r.proxied() {
		return program.Program{}, nil
	}
	if err := r.checkSocket(); err != nil {
		return program.Program{}, err
	}
	return r.proxy.Find(ctx)
}

// startProxy starts the socket proxy of a job, if benchmarks get one.
func (r *Runner) startProxy(ctx context.Context, job runner.Job, p program.Program) error {
	if !r.proxied() {
		return nil
	}
	return socketproxy.Start(ctx, commandOf(p), proxyDir(job), r.policy(ctx, job))
}

// keepProxy starts the job's socket proxy again when it dies, until done is called.
func (f *follower) keepProxy(ctx context.Context) (done func()) {
	if !hadProxy(f.job) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		for base.Wait(ctx, lookPause) == nil {
			// Whether one serves can't be known while files can't be opened.
			if serving, err := socketproxy.Serving(proxyDir(f.job)); err == nil && !serving {
				f.restartProxy(ctx)
			}
		}
	})
	return func() {
		cancel()
		keeping.Wait()
	}
}

// restartProxy starts the job's socket proxy, if it has one, unless it runs. The benchmark
// goes on without one where that fails, which is said once.
func (f *follower) restartProxy(ctx context.Context) {
	if !hadProxy(f.job) {
		return
	}
	p, err := f.r.proxy.Find(ctx)
	if err == nil {
		err = socketproxy.Restart(ctx, commandOf(p), proxyDir(f.job))
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && !f.cutOff {
		// That the log can't take it is found out by the output.
		_ = f.out.WriteMessage(fmt.Sprintf("the benchmark can't reach the Docker engine any more: %v", err))
	}
	f.cutOff = err != nil
}

func commandOf(p program.Program) []string { return append([]string{p.Path}, p.Args...) }

// policy returns what a job's benchmark may do through its socket proxy.
func (r *Runner) policy(ctx context.Context, job runner.Job) socketproxy.Policy {
	devices := r.devices(ctx, job)
	p := socketproxy.Policy{
		Job: job.ID, Engine: r.engine.DaemonHost(), Images: r.config.EngineImages,
		Results: job.ResultsDir, Caches: r.caches(), LinkDirs: r.config.LinkDirs,
		GPUs: devices.GPUs, CDI: devices.CDI, CPUs: job.Host.CPUs, MemoryNodes: job.Host.MemoryNodes,
		ShmMax: share(memory()/2, job), Pids: r.config.Pids, Memory: r.memoryLimit(job),
		Network: r.config.Network, Labels: map[string]string{LabelOwner: r.config.Owner},
		Benchmark: map[string]string{LabelCommand: job.ID, LabelOwner: r.config.Owner},
	}
	if filepath.IsAbs(job.Model) {
		p.Model, p.Files = job.Model, job.ModelFiles
	}
	return p
}

// caches returns the directories of Config.Caches as an engine mounts them. One that is
// not there yet is left out: an engine would make it, as root.
func (r *Runner) caches() (dirs []string) {
	for _, dir := range r.config.Caches {
		resolved, err := real(dir)
		if err != nil {
			r.log.Warn("cache not offered to benchmarks", "dir", dir, "err", err)
			continue
		}
		dirs = append(dirs, resolved)
	}
	return dirs
}

// fallbackMemory stands for the machine's memory where the kernel doesn't tell it.
const fallbackMemory = 16 << 30

// memory returns the machine's RAM in bytes, from MemTotal in /proc/meminfo
// (proc_meminfo(5)).
func memory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fallbackMemory
	}
	return parseMemory(string(text))
}

// parseMemory returns the value of the line MemTotal, whose kB is KiB.
func parseMemory(text string) int64 {
	for line := range strings.Lines(text) {
		var kib int64
		if n, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 && err == nil && kib > 0 && kib < 1<<50 {
			return kib << 10
		}
	}
	return fallbackMemory
}

// endEngines ends the job's socket proxy and the containers that its benchmark started
// through it, and says which.
func (r *Runner) endEngines(ctx context.Context, job runner.Job, out runner.Output) error {
	if err := socketproxy.End(ctx, proxyDir(job)); err != nil {
		return err
	}
	list, err := r.labelled(ctx, LabelEngine+"="+job.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		errs = append(errs, r.endEngine(ctx, c, out))
	}
	return errors.Join(errs...)
}
