package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, format string
		color        bool
		want         string
	}{
		{"elsewhere", FormatAuto, false, `"msg":"job started","job":"abc","after":"1.5s"`},
		{"json", FormatJSON, false, `"msg":"job started","job":"abc","after":"1.5s"`},
		{"text", FormatText, false, "INF job started job=abc after=1.5s"},
		{"colour", FormatText, true, "\x1b["},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, closer, err := New(Options{Output: &out, Format: tt.format, Color: tt.color})
			require.NoError(t, err)
			log.Debug("not shown")
			log.Info("job started", "job", "abc", "after", 1500*time.Millisecond)
			require.NoError(t, closer.Close())
			require.Contains(t, out.String(), tt.want)
			require.NotContains(t, out.String(), "not shown")
			require.Equal(t, tt.color, strings.Contains(out.String(), "\x1b["))
		})
	}
}

func TestFileIsRotated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs", "agent.log")
	write := func(text string) { // to its end, as an agent that stops
		log, closer, err := New(Options{File: path, Level: slog.LevelDebug})
		require.NoError(t, err)
		log.Debug(text)
		require.NoError(t, closer.Close())
	}
	write("first")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, json.Valid(text))

	filler := strings.Repeat("x", 1<<20)
	for range 26 {
		write(filler)
	}
	require.Eventually(t, func() bool { // old files are removed beside the writer
		files, err := os.ReadDir(filepath.Dir(path))
		return err == nil && len(files) == 1+keptFiles
	}, 5*time.Second, 10*time.Millisecond)
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxMegabytes<<20))
	}
}

// A log file that can't be written harms nobody, and is said once.
func TestFileThatFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	broken := &breakable{err: errors.New("no space left on device")}
	w := &forgivingWriter{w: broken, complain: slog.New(slog.NewTextHandler(&out, nil))}
	for range 3 {
		n, err := w.Write([]byte("x"))
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	require.Equal(t, 1, strings.Count(out.String(), "no space left on device"))
	broken.err = nil
	_, err := w.Write([]byte("x"))
	require.NoError(t, err)
	require.Contains(t, out.String(), "log file written again")
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var out bytes.Buffer
	log, closer, err := New(Options{Output: &out, File: filepath.Join(file, "agent.log")})
	require.Error(t, err)
	log.Info("still said")
	require.NoError(t, closer.Close())
	require.Contains(t, out.String(), "still said")
}

func TestColor(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	require.False(t, Color(&bytes.Buffer{}, none))
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	require.False(t, Color(f, none))
}

type breakable struct {
	bytes.Buffer
	err error
}

func (b *breakable) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.Buffer.Write(p)
}

func (b *breakable) Close() error { return nil }
