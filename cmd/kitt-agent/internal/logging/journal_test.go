package logging

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestJournalTakesTextWithPriorities(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, _, err := New(Options{Output: &out, Journal: true, Level: slog.LevelDebug})
	require.NoError(t, err)
	log.Debug("looking")
	log.With("job", "abc").WithGroup("model").Info("job started", "name", "two words")
	log.Warn("server not reached", "err", errors.New("first\nsecond"))
	log.Error("no way")
	require.Equal(t, "<7>looking\n"+
		"<6>job started job=abc model.name=\"two words\"\n"+
		"<4>server not reached err=\"first\\nsecond\"\n"+
		"<3>no way\n", out.String())
}

func TestJournalTakesJSONWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, _, err := New(Options{Output: &out, Journal: true, Format: FormatJSON})
	require.NoError(t, err)
	log.Info("job started", "job", "abc")
	require.Equal(t, `<6>{"level":"INFO","msg":"job started","job":"abc"}`+"\n", out.String())
}

func TestJournalIsTheStreamThatTheVariableNames(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &stat))
	named := func(text string) func(string) string {
		return func(name string) string {
			require.Equal(t, "JOURNAL_STREAM", name)
			return text
		}
	}
	require.True(t, Journal(f, named(fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))))
	require.False(t, Journal(f, named(fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1))))
	require.False(t, Journal(f, named("")))
	require.False(t, Journal(f, named("x")))
	require.False(t, Journal(&bytes.Buffer{}, named("1:2")))
}
