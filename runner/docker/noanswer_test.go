package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func TestEngineProgram(t *testing.T) {
	t.Parallel()
	empty, full := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "podman"), nil, 0o700))
	require.False(t, engineProgram([]string{empty, filepath.Join(empty, "none")}))
	require.True(t, engineProgram([]string{empty, full}))
	require.True(t, engineProgram([]string{filepath.Join(full, "podman")}), "it can't be searched")
}

// TestAnswerOf has what engines of two generations said in tests, and the words of the
// sources of moby 20.10 and 29, containerd 1.6 and 2.1, ttrpc 1.1 and 1.2 and gRPC 1.75.
func TestAnswerOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, answered, answerOf(nil))
	for err, want := range map[error]answer{
		context.DeadlineExceeded:       noAnswer,
		context.Canceled:               answered, // the caller's own
		io.ErrUnexpectedEOF:            noAnswer,
		fmt.Errorf("read: %w", io.EOF): noAnswer,
		errdefs.ErrUnavailable:         noAnswer,
		errdefs.ErrNotFound:            answered,
		errdefs.ErrConflict:            answered,
		errdefs.ErrInternal:            answered,
		errors.New("connection error: desc = in a path of the job's own"): answered,
	} {
		require.Equal(t, want, answerOf(err), "%v", err)
	}
	for _, c := range []struct {
		want   answer
		status int // the engine's
		text   string
	}{
		// containerd is away: gRPC's status Unavailable.
		{noAnswer, 500, "connection closed: unavailable"},
		{noAnswer, 500, "connection error: desc = \"transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: connection refused\": unavailable"},
		{noAnswer, 400, "connection error: desc = \"transport: error while dialing: dial unix:///run/containerd/containerd.sock: connect: no such file or directory\": unavailable"},
		{noAnswer, 400, "connection error: desc = \"transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: permission denied\": unavailable"},
		{noAnswer, 400, "connection error: desc = \"transport: Error while dialing: dial unix /x/y: connect: not a directory\": unavailable: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"},
		{noAnswer, 500, "connection error: desc = \"error reading server preface: EOF\": unavailable"},
		{noAnswer, 500, "connection error: desc = \"error reading server preface: read unix @->/run/containerd/containerd.sock: use of closed network connection\": unavailable"},
		{noAnswer, 500, "error reading from server: EOF: unavailable"},
		{noAnswer, 500, "error reading from server: EOF"},
		{noAnswer, 500, "error reading from server: read unix @->/run/containerd/containerd.sock: read: connection reset by peer: unavailable"},
		{noAnswer, 500, "transport is closing: unavailable"},
		{noAnswer, 500, "closing transport due to: connection error: desc = \"error reading from server: EOF\", received prior goaway: code: NO_ERROR, debug data: \"graceful_stop\": unavailable"},
		{noAnswer, 500, "the connection is draining: unavailable"},
		{noAnswer, 500, "the stream is rejected because server is draining the connection: unavailable"},
		{noAnswer, 500, "all SubConns are in TransientFailure, latest connection error: <nil>: unavailable"},
		{noAnswer, 500, "grpc: the connection is unavailable"},
		{noAnswer, 500, "no grpc connection or services is available: unavailable"},
		{noAnswer, 500, "grpc: the client connection is closing: context canceled"},
		{noAnswer, 500, "keepalive ping failed to receive ACK within timeout: unavailable"},
		{noAnswer, 500, "rpc error: code = Unavailable desc = transport is closing"},
		{noAnswer, 500, "unavailable"},
		{noAnswer, 503, "something is not ready"},
		// A shim died, or a call was cut off.
		{interrupted, 500, "ttrpc: closed: unknown"},
		{interrupted, 500, "failed to create shim task: ttrpc: closed: unknown"},
		{interrupted, 500, "task start: ttrpc: server closed: unknown"},
		{interrupted, 500, "failed to start shim: failed to create TTRPC connection: dial unix /run/containerd/s/0123: connect: connection refused: unknown"},
		{interrupted, 500, "context canceled"},
		{interrupted, 500, "failed to create shim task: context canceled: unknown"},
		{interrupted, 500, "failed to create task for container: context deadline exceeded"},
		{interrupted, 500, "failed to start shim: start failed: context deadline exceeded: unknown"},
		{interrupted, 404, "no running task found: task 0123 not found: not found"},
		// An earlier start was cut off.
		{interrupted, 409, "id already in use"},
		{interrupted, 500, "task 0123: already exists"},
		{interrupted, 500, "failed to start shim: mkdir /run/containerd/io.containerd.runtime.v2.task/moby/0123: file exists: unknown"},
		{interrupted, 500, "OCI runtime create failed: container with given ID already exists: unknown"},
		// The engine says why it can't.
		{answered, 500, "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"/kitt-supervise\": unknown"},
		{answered, 500, "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/data\": unknown"},
		{answered, 400, "failed to create task for container: failed to create shim task: OCI runtime create failed: exec: \"kitt\": executable file not found in $PATH: unknown"},
		{answered, 500, "could not select device driver \"\" with capabilities: [[gpu]]"},
		{answered, 500, "failed to start shim: start failed: no space left on device: unknown"},
		{answered, 404, "No such container: 0123"},
		{answered, 409, "container is marked for removal and cannot be started"},
		{answered, 500, "the model \"unavailable\" is one word"},
	} {
		client := stubEngine(t, c.status, c.text)
		_, err := client.ContainerStart(t.Context(), "0123", mobyclient.ContainerStartOptions{})
		require.ErrorContains(t, err, c.text)
		require.Equal(t, c.want, answerOf(fmt.Errorf("start the container: %w", err)), "%v", err)
	}
}

// stubEngine returns a client of an engine that answers every call alike.
func stubEngine(t *testing.T, status int, text string) *mobyclient.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// A client that has gone needs no answer.
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
	}))
	t.Cleanup(server.Close)
	c, err := mobyclient.New(mobyclient.WithHost("tcp://"+server.Listener.Addr().String()), mobyclient.WithAPIVersion("1.41"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// TestInsist waits for an engine that is away as long as it takes, and gives up on one
// that fails for two minutes.
func TestInsist(t *testing.T) {
	t.Parallel()
	closed := errors.New(daemonSays + "ttrpc: closed: unknown")
	synctest.Test(t, func(t *testing.T) {
		out := &runnertest.Recorder{}
		f := &follower{out: out}
		start := time.Now()
		require.NoError(t, f.insist(t.Context(), func() error {
			switch past := time.Since(start); {
			case past < time.Hour:
				return io.EOF
			case past < time.Hour+time.Minute:
				return closed
			}
			return nil
		}))
		require.Contains(t, out.Messages(), "waiting for the Docker engine")
		require.Equal(t, time.Hour+time.Minute, time.Since(start))

		start = time.Now()
		err := f.insist(t.Context(), func() error { return closed })
		require.ErrorIs(t, err, closed)
		require.ErrorContains(t, err, "fails again and again")
		require.Equal(t, interruptedLimit, time.Since(start))
	})
}
