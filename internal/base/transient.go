package base

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Transient reports whether err is one of the machine and not of the file: too many
// open files, no memory, a disk that is full, broken, read-only or away. It says
// nothing about what a file holds, and may be gone at the next attempt.
func Transient(err error) bool {
	for _, each := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EIO, syscall.EROFS,
		syscall.ESTALE, syscall.EDQUOT, syscall.ENOSPC, syscall.EAGAIN, syscall.EINTR, syscall.ETIMEDOUT,
		syscall.ENOTCONN, syscall.ESHUTDOWN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}

// TransientPause is the time between attempts at what failed with a [Transient]
// error.
const TransientPause = time.Second

// Persist calls do until its error is not [Transient], and returns what do returned
// last. It calls waiting, unless that is nil, with the first error that it waits out.
// When ctx is done, the error is do's and does not match the cause of ctx.
func Persist[T any](ctx context.Context, waiting func(error), do func() (T, error)) (T, error) {
	for {
		v, err := do()
		if !Transient(err) {
			return v, err
		}
		if waiting != nil {
			waiting(err)
			waiting = nil
		}
		if Wait(ctx, TransientPause) != nil {
			return v, err
		}
	}
}
