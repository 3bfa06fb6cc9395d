package agent

import (
	"sync"

	"github.com/kirizan/kitt-agent/logstream"
)

// logKeeper keeps a job's log open for as long as anybody uses it: the job, its
// courier, readers. They all share one Log, so that readers hear of new lines.
type logKeeper struct {
	path string

	mu    sync.Mutex
	log   *logstream.Log
	users int
}

// use opens the log, which is made if it isn't there. The caller calls release
// once when done.
func (k *logKeeper) use(opts logstream.Options) (log *logstream.Log, release func() error, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.log == nil {
		if k.log, err = logstream.Open(k.path, opts); err != nil {
			return nil, nil, err
		}
	}
	k.users++
	return k.log, sync.OnceValue(k.release), nil
}

func (k *logKeeper) release() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users--; k.users > 0 {
		return nil
	}
	err := k.log.Close()
	k.log = nil
	return err
}

// exists reports whether the job has a log.
func (k *logKeeper) exists() bool {
	return fileExists(k.path) || fileExists(k.path+logstream.Suffix)
}

// inUse reports whether anybody uses the log.
func (k *logKeeper) inUse() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.users > 0
}

// lines returns how many lines the log has, 0 while nobody uses it.
func (k *logKeeper) lines() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.log == nil {
		return 0
	}
	return k.log.Len()
}

// compress makes the log small if nobody uses it, and reports whether it is.
func (k *logKeeper) compress() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users > 0 {
		return false, nil
	}
	if !fileExists(k.path) {
		return true, nil
	}
	err := logstream.Compress(k.path)
	return err == nil, err
}

// useLog opens j's log for the caller, who calls release once when done. A job
// whose end a full disk or a crash kept out of its log gets it there now.
func (a *Agent) useLog(j *job) (log *logstream.Log, release func() error, err error) {
	log, release, err = j.logs.use(logstream.Options{Secrets: a.cfg.Secrets, Logger: a.log.With("job", j.id)})
	if err != nil {
		return nil, nil, err
	}
	if rec := j.snapshot(); rec.State.Ended() && !log.Finished() {
		if err := log.Finish(rec.Outcome.final()); err != nil {
			a.log.Warn("end of the log not written", "job", j.id, "err", err)
		}
	}
	return log, release, nil
}

// final returns the outcome as the end of a log.
func (o ending) final() logstream.Final {
	return logstream.Final{Status: string(o.State), Error: o.Error}
}
