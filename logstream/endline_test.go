package logstream

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEndLine ends a last line without a newline before what the agent says of the
// end, also in a log that was opened again within that line.
func TestEndLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	require.NoError(t, err)
	text := []byte("line 1\nRuntimeError: engine died")
	l.Append(text, time.Time{}, Position{})
	require.NoError(t, l.Close())

	l, err = Open(path, Options{})
	require.NoError(t, err)
	from := l.Position()
	l.Note("The agent was restarted")
	l.Append(text[from.Byte:], time.Time{}, from)
	l.EndLine()
	l.EndLine() // no line is open any more
	l.Note("Error: Exit 1")
	require.NoError(t, l.Finish(Final{Status: "failed"}))
	var lines []string
	for _, r := range all(t, l) {
		lines = append(lines, r.Text)
	}
	require.Equal(t, []string{"line 1", "The agent was restarted", "RuntimeError: engine died", "Error: Exit 1"}, lines)
	require.Equal(t, int64(len(text)), l.Offset())
	require.NoError(t, l.Close())
}
