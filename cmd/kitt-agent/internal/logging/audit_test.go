package logging

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTrail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs", "audit.jsonl")
	for range 2 { // it is continued
		trail, err := OpenTrail(path, func(err error) { t.Error(err) })
		require.NoError(t, err)
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range 100 {
					trail.Write(map[string]string{"request": "run_test\n"})
				}
			})
		}
		writers.Wait()
		require.NoError(t, trail.Close())
		require.NoError(t, trail.Close())
		trail.Write("after the end")
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("{\"request\":\"run_test\\n\"}\n", 800), string(text))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestTrailIsRotated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	trail, err := OpenTrail(path, func(err error) { t.Error(err) })
	require.NoError(t, err)
	for range 4 {
		trail.Write(strings.Repeat("x", 2<<20))
	}
	<-drained(trail)
	require.NoError(t, trail.Close())
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "audit*"))
	require.NoError(t, err)
	require.Len(t, files, 2)
}

// drained returns a channel that is closed when the entries so far are written.
func drained(trail *Trail) <-chan struct{} {
	q := trail.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.lines)
	return q.done
}

// stuck is a disk that hangs until it is released.
type stuck struct {
	bytes.Buffer
	release chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return s.Buffer.Write(p)
}

func (s *stuck) Close() error { return nil }

func TestTrailWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	disk := &stuck{release: make(chan struct{})}
	failed := func(err error) { t.Error(err) }
	trail := &Trail{queue: newLineQueue(disk, 2, lostEntries, failed), failed: failed}
	for i := range 10 {
		trail.Write(i)
	}
	close(disk.release)
	for trail.queue.lostNow() > 0 {
		trail.Write("last")
	}
	require.NoError(t, trail.Close())
	written := 0
	lost := 0
	for line := range strings.Lines(disk.String()) {
		var note struct {
			Lost int `json:"lost_entries"`
		}
		if strings.HasPrefix(line, "{") {
			require.NoError(t, json.Unmarshal([]byte(line), &note))
			lost += note.Lost
			continue
		}
		if line != "\"last\"\n" {
			written++
		}
	}
	require.GreaterOrEqual(t, written+lost, 10, "each is written or counted")
}

func (q *lineQueue) lostNow() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// TestTheLogWaitsForNoDisk has a log file on a disk that hangs: who logs goes on, and the
// file says what it lacks.
func TestTheLogWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	disk := &stuck{release: make(chan struct{})}
	queue := newLineQueue(disk, 2, lostRecords, func(err error) { t.Error(err) })
	log := slog.New(slog.NewJSONHandler(queue, nil))
	for range 10 {
		log.Info("said")
	}
	close(disk.release)
	for queue.lostNow() > 0 {
		log.Info("last")
	}
	require.NoError(t, queue.Close())
	require.Regexp(t, `"msg":"records are missing here: the disk took too long","records":\d+}\n.*"msg":"last"`, disk.String())
}
