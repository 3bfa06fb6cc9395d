package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// A copyRun makes one copy and publishes it.
type copyRun struct {
	cfg      Config
	st       state
	dir      *modelDir
	watchdog *watchdog
	from     source
	target   string // below the storage directory
	model    string // as the first request named it
	started  time.Time
	wanted   func(*manifest) bool
	progress *progressLog
	log      *slog.Logger

	counters modelcopy.Counters
	made     int          // claim.Made; set before reserved
	reserved atomic.Int64 // bytes that were needed when space was reserved; 0 before that
}

// run makes the copy, or waits for another agent that is making it. copied tells
// whether it did the former.
func (r *copyRun) run(ctx context.Context) (copied bool, err error) {
	claimed, err := r.claim(ctx)
	if err != nil {
		return false, iofault.Explain("claim", r.target, err)
	}
	m, err := r.dir.copies.at(r.target)
	if err != nil || m != nil {
		return false, errors.Join(err, os.Remove(claimed.Name()), claimed.Close())
	}

	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() { r.sample(claimed, stop) })
	err = r.watchdog.run(ctx, r.from.top, modelcopy.MaxParallel(r.cfg.Workers), func(ctx context.Context, timers []*opTimer) (err error) {
		// The claim is held until the last worker has returned, however long it hung.
		defer func() { err = errors.Join(err, claimed.Close()) }()
		return r.copy(ctx, claimed, timers)
	})
	close(stop)
	sampler.Wait()
	if err != nil {
		r.log.WarnContext(ctx, "model not copied", "model", r.target, "err", err)
		return false, iofault.First(err)
	}
	done := r.counters.Snapshot()
	r.progress.meter.add(done.BytesTotal, done.BytesTotal, done.FilesTotal, done.FilesTotal)
	return true, nil
}

// claim locks the copy's claim. Meanwhile it takes the progress of the agent that
// holds it.
func (r *copyRun) claim(ctx context.Context) (*os.File, error) {
	told := false
	return waitLock(ctx, r.dir.claims.path(r.target), func(file *os.File) {
		if !told {
			told = true
			r.progress.note("another agent is copying " + r.target + "; waiting for its copy")
		}
		if c, ok := readClaim(file); ok {
			r.progress.meter.add(c.Done, c.Size, 0, 0)
		}
	})
}

// sample keeps the progress and the claim up to date until stop is closed.
func (r *copyRun) sample(claimed *os.File, stop <-chan struct{}) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now := r.counters.Snapshot()
		r.progress.meter.add(now.BytesDone, now.BytesTotal, now.FilesDone, now.FilesTotal)
		if reserved := r.reserved.Load(); reserved > 0 && n%4 == 0 {
			left := int64(float64(reserved) * (1 - float64(now.BytesAllocated)/float64(max(now.BytesTotal, 1))))
			// An error costs nothing: a second later there is the next one.
			_ = writeClaim(claimed, claim{Path: rawText(r.target), Left: left, Done: now.BytesDone, Size: now.BytesTotal, Made: r.made})
		}
	}
}

// copy makes room, copies the model and publishes the copy.
func (r *copyRun) copy(ctx context.Context, claimed *os.File, timers []*opTimer) error {
	if err := r.makeWay(ctx); err != nil {
		return err
	}
	parents, err := r.makeParents(ctx, claimed)
	if err != nil {
		return errors.Join(err, r.removeUnstarted(claimed, parents))
	}
	r.made = len(parents)
	copied, err := modelcopy.Copy(ctx, modelcopy.Options{
		Share: r.from.top, Model: r.from.dir(), Files: r.from.files, Link: r.from.local(), Stage: r.dir.stage(r.target), Workers: r.cfg.Workers,
		Counters: &r.counters, Note: r.progress.note,
		Reserve: func(left, whole int64) error { return r.reserve(ctx, claimed, left, whole) },
	}, timers)
	if err != nil {
		return errors.Join(iofault.First(err), r.removeUnstarted(claimed, parents))
	}
	took := time.Since(r.started)
	m := r.manifest(copied, parents, took)
	if err := m.in(r.dir).publish(ctx, copied); err != nil {
		return err
	}
	how := fmt.Sprintf("(%s/s)", base.Size(int64(float64(m.Bytes)/max(took.Seconds(), 1e-3))))
	if m.Shared > 0 {
		how = fmt.Sprintf("(%s of it shared with the original)", base.Size(m.Shared))
	}
	r.progress.note(fmt.Sprintf("copied %s: %s in %v %s", r.target, base.Size(m.Bytes), took.Round(10*time.Millisecond), how))
	r.log.InfoContext(ctx, "model copied", "model", r.target, "bytes", m.Bytes, "took", took)
	return os.Remove(claimed.Name())
}

func (r *copyRun) reserve(ctx context.Context, claimed *os.File, left, whole int64) error {
	r.reserved.Store(left)
	need := &reservation{dir: r.dir, claim: claimed, rel: r.target, made: r.made, bytes: left, whole: whole,
		keepFree: r.cfg.KeepFree, limit: r.cfg.MaxBytes, wanted: r.wanted, note: r.progress.note}
	return need.reserve(ctx)
}

func (r *copyRun) manifest(copied *modelcopy.Result, parents []rawText, took time.Duration) *manifest {
	m := &manifest{
		Version: 1, Path: r.target, Source: r.st.ShareSource, SourcePath: rawText(r.from.rel), Copied: time.Now().UTC(), Took: took.Seconds(),
		Bytes: copied.Bytes, Files: copied.Files, Hash: copied.Hash, Piece: copied.Piece, Shared: copied.Shared, Print: copied.Print, Main: rawText(r.from.main()),
		Requests: []rawText{rawText(r.model)}, Parents: parents, Boot: base.BootID(),
	}
	if m.Source == "" || r.from.local() {
		m.Source = r.from.top
	}
	return m
}
