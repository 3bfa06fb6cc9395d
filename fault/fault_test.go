package fault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

func TestError(t *testing.T) {
	t.Parallel()
	err := fault.New("disk-full", "free some space", "write %q: %w", "a", fs.ErrPermission)
	require.EqualError(t, err, `write "a": permission denied (free some space)`)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.Equal(t, fs.ErrPermission, err.Err)

	plain := fault.New("x", "", "a\nb\x1b[31m")
	require.EqualError(t, plain, `a\nb\x1b[31m`, "nothing that a terminal obeys")
	require.NoError(t, errors.Unwrap(plain))
}

func TestOf(t *testing.T) {
	t.Parallel()
	inner := &fault.Error{Class: "lost", Text: "gone", Fix: "look"}
	for _, tt := range []struct {
		err        error
		class, fix string
	}{
		{nil, "", ""},
		{errors.New("plain"), "", ""},
		{inner, "lost", "look"},
		{fmt.Errorf("run: %w", errors.Join(errors.New("plain"), inner)), "lost", "look"},
		{fmt.Errorf("run: %w", &runner.ExitError{OOMKilled: true, Code: 137}), runner.ClassOOM, ""},
	} {
		class, fix := fault.Of(tt.err)
		require.Equal(t, []string{tt.class, tt.fix}, []string{class, fix}, "%v", tt.err)
	}
}

// An Error is the same whichever package it comes from.
func TestOneType(t *testing.T) {
	t.Parallel()
	var err error = &storage.Error{Class: storage.ClassSpace, Text: "full"}
	same, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok)
	require.Same(t, err, same)
}
