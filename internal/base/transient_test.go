package base

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestTransient(t *testing.T) {
	for _, err := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.EROFS, syscall.ESTALE, syscall.EDQUOT,
		&os.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC},
		fmt.Errorf("read: %w", errors.Join(errors.New("x"), syscall.EIO)),
	} {
		require.True(t, Transient(err), err)
	}
	for _, err := range []error{nil, os.ErrNotExist, syscall.EACCES, syscall.EISDIR, errors.New("x")} {
		require.False(t, Transient(err), err)
	}
}

func TestPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said, calls := 0, 0
		tries, err := Persist(t.Context(), func(error) { said++ }, func() (int, error) {
			if calls++; calls < 5 {
				return calls, syscall.EMFILE
			}
			return calls, os.ErrNotExist
		})
		require.Equal(t, os.ErrNotExist, err)
		require.Equal(t, 5, tries)
		require.Equal(t, 1, said)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = Persist(ctx, nil, func() (int, error) { return 0, syscall.EIO })
		require.Equal(t, syscall.EIO, err)
	})
}
