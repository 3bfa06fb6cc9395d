package jobs

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// A Log keeps a job's log open for as long as anybody uses it. All users share one
// logstream.Log, so that readers hear of new lines.
type Log struct {
	path string

	open  sync.Mutex // held while the file is opened, closed or compressed
	users atomic.Int64
	now   atomic.Pointer[logstream.Log] // nil while nobody uses it
}

// Use opens the log, which is made if it isn't there. The caller calls release
// once when done.
func (l *Log) Use(opts logstream.Options) (log *logstream.Log, release func() error, err error) {
	l.open.Lock()
	defer l.open.Unlock()
	log = l.now.Load()
	if log == nil {
		if log, err = logstream.Open(l.path, opts); err != nil {
			return nil, nil, err
		}
		l.now.Store(log)
	}
	l.users.Add(1)
	return log, sync.OnceValue(l.release), nil
}

func (l *Log) release() error {
	l.open.Lock()
	defer l.open.Unlock()
	if l.users.Add(-1) > 0 {
		return nil
	}
	return l.now.Swap(nil).Close()
}

// Exists reports whether the job has a log.
func (l *Log) Exists() bool {
	return base.Exists(l.path) || base.Exists(l.path+logstream.Suffix)
}

// Size returns how many bytes the log takes on disk, 0 if there is none.
func (l *Log) Size() int64 {
	for _, path := range []string{l.path, l.path + logstream.Suffix} {
		if info, err := os.Stat(path); err == nil {
			return info.Size()
		}
	}
	return 0
}

// InUse reports whether anybody uses the log.
func (l *Log) InUse() bool { return l.users.Load() > 0 }

// Lines returns how many lines the log has, 0 while nobody uses it.
func (l *Log) Lines() int64 {
	if log := l.now.Load(); log != nil {
		return log.Len()
	}
	return 0
}

// Refused returns how many lines the disk has refused since the log was opened, 0 while
// nobody uses it.
func (l *Log) Refused() int64 {
	if log := l.now.Load(); log != nil {
		return log.Refused()
	}
	return 0
}

// Compress makes the log small unless somebody uses it, and reports whether it is.
// Whoever wants to use the log meanwhile waits.
func (l *Log) Compress() (bool, error) {
	l.open.Lock()
	defer l.open.Unlock()
	if l.InUse() {
		return false, nil
	}
	if !base.Exists(l.path) {
		return true, nil
	}
	err := logstream.Compress(l.path)
	return err == nil, err
}
