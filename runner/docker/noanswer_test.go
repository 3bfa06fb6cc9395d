package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/stretchr/testify/require"
)

func TestEngineProgram(t *testing.T) {
	t.Parallel()
	empty, full := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "podman"), nil, 0o700))
	require.False(t, engineProgram([]string{empty, filepath.Join(empty, "none")}))
	require.True(t, engineProgram([]string{empty, full}))
	require.True(t, engineProgram([]string{filepath.Join(full, "podman")}), "it can't be searched")
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil:                            false,
		context.DeadlineExceeded:       true,
		context.Canceled:               false,
		io.ErrUnexpectedEOF:            true,
		fmt.Errorf("read: %w", io.EOF): true,
		errdefs.ErrUnavailable:         true,
		errdefs.ErrNotFound:            false,
		errdefs.ErrConflict:            false,
		errdefs.ErrInternal:            false,
		errors.New("connection error"): false,
		fmt.Errorf("%w: OCI runtime create failed", errdefs.ErrInternal): false,
		fmt.Errorf("%w: connection error: desc = \"transport: Error while dialing dial unix /run/containerd/containerd.sock: "+
			"connect: connection refused\": unavailable", errdefs.ErrInternal): true,
	} {
		require.Equal(t, want, noAnswer(err), "%v", err)
	}
}
