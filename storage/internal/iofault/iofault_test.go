package iofault

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	require.NoError(t, Explain("open", "m", nil))
	for cause, class := range map[error]string{
		syscall.ESTALE: Stale, syscall.EACCES: Permission, syscall.ENOSPC: Space, syscall.EDQUOT: Space,
		syscall.ENOENT: Changed, syscall.EIO: IO,
	} {
		err := Explain("open", "m\n", &fs.PathError{Op: "openat", Path: "/elsewhere/m", Err: cause})
		require.Equal(t, class, ClassOf(err))
		require.ErrorIs(t, err, cause)
		require.Contains(t, err.Error(), `open "m\n": `+cause.Error(), "the path appears once")
		require.Same(t, err, Explain("copy", "other", err))
	}
}

func TestFirst(t *testing.T) {
	t.Parallel()
	one, plain := fault.New(Damaged, "", "bad: %w", fs.ErrInvalid), errors.New("plain")
	require.Same(t, one, First(errors.Join(plain, one)))
	require.Equal(t, plain, First(plain))
	require.ErrorIs(t, one, fs.ErrInvalid)
	require.Empty(t, ClassOf(plain))
}
