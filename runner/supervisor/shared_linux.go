package supervisor

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// A Shared describes a run whose directory other machines see, and see late, as on
// NFS. The agent is on one of them: it can neither see this process nor signal it.
type Shared struct {
	// Label names the run at its scheduler, for people. The claim has it.
	Label string

	// Grace is the time between SIGTERM and SIGKILL for a benchmark that is asked to
	// end, by a signal to this process or by CancelFile. Zero means
	// [runner.DefaultStopGrace].
	Grace time.Duration
}

// beatEvery is the time between two writes of alive.json and two looks at CancelFile.
const beatEvery = 2 * time.Second

// killEvery is the time between two kills of a benchmark whose grace is over.
const killEvery = 100 * time.Millisecond

// A beacon shows other machines that the run lives, sends its output to them, and ends
// the benchmark when it is asked to. One goroutine uses it at a time.
type beacon struct {
	dir   string
	out   *os.File
	alive *os.File // nil if it can't be made
	state Alive
	grace time.Duration
	asked string // by what the benchmark was asked to end; empty if it was not
}

// newBeacon returns nil, which does nothing, for a run that isn't shared.
func newBeacon(cfg Config, out *os.File) *beacon {
	if cfg.Shared == nil {
		return nil
	}
	b := &beacon{dir: cfg.Dir, out: out, state: Alive{Version: Version}, grace: cfg.Shared.Grace}
	if b.grace <= 0 {
		b.grace = runner.DefaultStopGrace
	}
	b.alive, _ = create(filepath.Join(cfg.Dir, AliveFile), 0)
	b.beat()
	return b
}

// beat sends the output and shows that this process lives. A disk that is full or away
// refuses it, until the next beat.
func (b *beacon) beat() {
	b.state.Beat++
	if info, err := b.out.Stat(); err == nil && info.Size() != b.state.Output {
		_ = unix.Fdatasync(int(b.out.Fd()))
		b.state.Output = info.Size()
	}
	if b.alive == nil {
		return
	}
	text, err := b.state.encode()
	if err == nil {
		_, _ = b.alive.WriteAt(text, 0)
		_ = unix.Fdatasync(int(b.alive.Fd()))
	}
}

// keep beats until stop is called, and ends the process group pid when it is asked to.
func (b *beacon) keep(pid int, signals *signals) (stop func()) {
	if b == nil {
		return func() {}
	}
	var keeping sync.WaitGroup
	done := make(chan struct{})
	keeping.Go(func() {
		beats := time.NewTicker(beatEvery)
		defer beats.Stop()
		var over <-chan time.Time // set once the benchmark is asked to end
		for {
			select {
			case <-done:
				return
			case <-beats.C:
				b.beat()
				if b.asked == "" && Cancelled(b.dir) {
					b.asked = askedByCancel
					_ = unix.Kill(-pid, unix.SIGTERM) // it may have ended just now
					over = time.After(b.grace)
				}
			case sig := <-signals.asked:
				if b.asked == "" {
					b.asked = unix.SignalName(sig)
					over = time.After(b.grace)
				}
			case <-over:
				procfs.Signal(procfs.Descendants(procfs.All(), os.Getpid()), unix.SIGKILL)
				over = time.After(killEvery)
			}
		}
	})
	return func() {
		close(done)
		keeping.Wait()
	}
}

// end adds to what is written of the end what only a shared run has.
func (b *beacon) end(e *Exit) {
	if b == nil {
		return
	}
	_ = b.out.Sync() // what can't be sent is missing, and Output says so
	if info, err := b.out.Stat(); err == nil {
		e.Output = info.Size()
	}
	e.Asked = b.asked
}

// ended shows how the benchmark ended.
func (b *beacon) ended(e Exit) {
	if b == nil {
		return
	}
	b.state.Exit = &e
	b.beat()
}

// finish shows that nothing writes to the output any more.
func (b *beacon) finish() {
	if b == nil {
		return
	}
	b.state.Done = true
	b.beat()
	if b.alive != nil {
		b.alive.Close()
	}
}
