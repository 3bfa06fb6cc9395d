package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const lockPoll = 20 * time.Millisecond

// lock takes the lock of the storage directory. Goroutines of this process wait
// for each other on a channel, and for other processes by polling.
func (d *modelDir) lock(ctx context.Context) (unlock func(), err error) {
	if ctx.Err() != nil { // select would choose at random
		return nil, context.Cause(ctx)
	}
	select {
	case d.locking <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	file, err := waitLock(ctx, filepath.Join(d.dir, ownDir, "lock"), nil)
	if err != nil {
		<-d.locking
		return nil, err
	}
	return func() {
		_ = file.Close() // nothing was written to it
		<-d.locking
	}, nil
}

// waitLock opens and locks a file, which it creates if necessary and which its
// owner may remove before it unlocks it. waiting is called at each attempt that
// fails because another process holds the lock.
func waitLock(ctx context.Context, name string, waiting func(*os.File)) (*os.File, error) {
	for {
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		ok, err := tryLock(file)
		if err == nil && ok {
			if isNamed(file, name) {
				return file, nil
			}
		} else if err == nil && waiting != nil {
			waiting(file)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		if ok {
			continue
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// isNamed reports whether an open file still has that name. The last owner of a
// lock may have removed the file before it unlocked it.
func isNamed(file *os.File, name string) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(opened, named)
}
