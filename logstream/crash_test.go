package logstream

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// linesOf returns the lines that output must become, by the rules that the
// package comment states: the plain and slow way, without pieces and positions.
func linesOf(output string) []string {
	var lines []string
	for line := range strings.SplitAfterSeq(output, "\n") {
		ended := strings.HasSuffix(line, "\n")
		if line == "" {
			continue
		}
		if ended {
			line = strings.TrimRight(strings.TrimSuffix(line, "\n"), "\r")
		}
		states := strings.Split(line, "\r")
		last := states[len(states)-1]
		for i := len(states) - 1; i >= 0 && blank([]byte(last)); i-- {
			if !blank([]byte(states[i])) {
				last = states[i]
			}
		}
		if !ended && last == "" {
			continue
		}
		lines = append(lines, strings.ToValidUTF8(last, "\uFFFD"))
	}
	return lines
}

// source is the output of a benchmark in entries as the Docker engine keeps
// them: each has a stamp, and some share one.
type source struct {
	entries []string
	at      []Position // where each begins
}

// drawSource cuts output into entries, anywhere.
func drawSource(t *rapid.T, output string) source {
	var s source
	pos := Position{Stamp: 1}
	for len(output) > 0 {
		n := rapid.IntRange(1, min(len(output), 25)).Draw(t, "entry")
		s.entries, s.at = append(s.entries, output[:n]), append(s.at, pos)
		output = output[n:]
		if rapid.Bool().Draw(t, "same stamp") {
			pos.Count++
		} else {
			pos = Position{Stamp: pos.Stamp + 1}
		}
	}
	return s
}

// feed appends what follows the log's position, up to entry until.
func (s source) feed(l *Log, until int, pause func()) {
	from, begun := l.Position(), false
	for i := range until {
		at, text := s.at[i], s.entries[i]
		if !begun && from != (Position{}) {
			if at.Stamp != from.Stamp || at.Count != from.Count {
				continue
			}
			at, text = from, text[from.Byte:]
		}
		begun = true
		if len(text) > 0 {
			l.Append([]byte(text), time.Time{}, at)
		}
		pause()
	}
}

// TestNothingIsLostOrTwiceAfterACrash cuts the file off anywhere, as a crash or
// a power cut does, opens it again and feeds the output from where the log says.
// Progress bars, pauses, in which open lines are shown, and notes come between.
func TestNothingIsLostOrTwiceAfterACrash(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(timeless{t}, func(t *rapid.T) {
			path := filepath.Join(dir, "log")
			defer os.Remove(path)
			output := strings.Join(rapid.SliceOfN(rapid.StringMatching(`[ab%é\x1b ]{0,12}(\n|\r\n|\r|\r\r\n|\xff)`), 1, 30).Draw(t, "output"), "") + "\n"
			s := drawSource(t, output)
			pause := func() {
				switch rapid.IntRange(0, 9).Draw(t, "pause") {
				case 0:
					time.Sleep(700 * time.Millisecond) // of the bubble's clock
				case 1:
					time.Sleep(3 * time.Second)
				}
			}
			for range rapid.IntRange(0, 4).Draw(t, "crashes") {
				l, err := Open(path, Options{})
				require.NoError(t, err)
				s.feed(l, rapid.IntRange(0, len(s.entries)).Draw(t, "until"), func() {
					pause()
					if rapid.IntRange(0, 9).Draw(t, "note") == 0 {
						l.Note("note")
					}
				})
				require.NoError(t, l.Close())
				info, err := os.Stat(path)
				require.NoError(t, err)
				require.NoError(t, os.Truncate(path, rapid.Int64Range(0, info.Size()).Draw(t, "cut")))
			}
			l, err := Open(path, Options{})
			require.NoError(t, err)
			defer l.Close()
			s.feed(l, len(s.entries), pause)
			records := all(t, l)
			require.Equal(t, linesOf(output), texts(records, Output, Repeat))
			requireRepeatsWereShown(t, records)
		})
	})
}

// timeless is a test without a deadline, which one in a bubble can't be asked for.
type timeless struct{ *testing.T }

func (timeless) Deadline() (time.Time, bool) { return time.Time{}, false }

// requireRepeatsWereShown checks that what readers may leave out was there
// before.
func requireRepeatsWereShown(t require.TestingT, records []Record) {
	var shown *string
	for _, r := range records {
		switch r.Kind {
		case Progress:
			shown = &r.Text
		case Repeat:
			require.NotNil(t, shown)
			require.Equal(t, *shown, r.Text)
			shown = nil
		case Output, Continued:
			shown = nil
		}
	}
}

// TestALineThatWasShownBeforeACrashIsNotShownTwice: readers that saw a line as a
// state must be told that it ended as they saw it.
func TestALineThatWasShownBeforeACrashIsNotShownTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := open(t, path)
		l.Append([]byte("Load\xffing"), time.Time{}, Position{})
		time.Sleep(time.Second)
		l.Note("The agent stops")
	})
	l := open(t, path)
	require.Zero(t, l.Position())
	l.Append([]byte("Load\xffing\n"), time.Time{}, Position{})
	records := all(t, l)
	require.Equal(t, []string{"Load\uFFFDing", "The agent stops", "Load\uFFFDing"}, texts(records))
	require.True(t, records[2].Repeats())
}

// TestABarThatIsWipedAfterACrashKeepsItsLastState crashes between a bar's last
// state and the end of its line, with a record between that bears the position.
func TestABarThatIsWipedAfterACrashKeepsItsLastState(t *testing.T) {
	t.Parallel()
	const output = "10%\r100%\r    \r\n"
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	l.Append([]byte(output[:len(output)-2]), time.Time{}, Position{})
	l.Note("The agent stops")
	require.NoError(t, l.Close())
	l = open(t, path)
	at := l.Position().Byte
	l.Append([]byte(output[at:]), time.Time{}, l.Position())
	require.Equal(t, []string{"100%"}, texts(all(t, l), Output))
}

func TestTheSameOutputMayComeAgainWithoutACrash(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	l.Append([]byte("one\ntw"), time.Time{}, Position{})
	require.Equal(t, Position{Byte: 4}, l.Position())
	l.Append([]byte("two\nthree"), time.Time{}, l.Position())
	l.Append([]byte("three\n"), time.Time{}, l.Position())
	require.Equal(t, []string{"one", "two", "three"}, texts(all(t, l)))
}

// TestALongLineAcrossEntriesAndACrash cuts a line of several records, which came
// in entries as long as the Docker engine makes them, in the middle of
// characters.
func TestALongLineAcrossEntriesAndACrash(t *testing.T) {
	t.Parallel()
	const entry = 16 << 10
	output := "x" + strings.Repeat("é", 3*MaxLine/2) + "\n"
	var s source
	for i := 0; i < len(output); i += entry {
		s.entries = append(s.entries, output[i:min(i+entry, len(output))])
		s.at = append(s.at, Position{Stamp: int64(i/entry) + 1})
	}
	path := filepath.Join(t.TempDir(), "log")
	for until := range len(s.entries) + 1 {
		l, err := Open(path, Options{})
		require.NoError(t, err)
		s.feed(l, until, func() {})
		require.NoError(t, l.Close())
	}
	var text strings.Builder
	records := all(t, open(t, path))
	for i, r := range records {
		require.True(t, utf8.ValidString(r.Text))
		require.LessOrEqual(t, len(r.Text), MaxLine)
		require.Equal(t, i < len(records)-1, r.Kind == Continued)
		text.WriteString(r.Text)
	}
	require.Equal(t, output, text.String()+"\n")
}

// FuzzAppend feeds arbitrary bytes in arbitrary pieces: apart from line ends,
// and from what a carriage return overwrote, the text comes out as it went in.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("a\nb\r\nc\rd\n"), uint8(3))
	f.Add([]byte("\xff\xfe\n\xc3"), uint8(1))
	f.Add([]byte("10%\r   \r\r\n\r"), uint8(2))
	f.Add([]byte("a\n  \r"), uint8(7))
	f.Fuzz(func(t *testing.T, p []byte, piece uint8) {
		if len(p) > MaxLine {
			return
		}
		l := fresh(t)
		n := int(piece) + 1
		for at := 0; at < len(p); at += n {
			l.Append(p[at:min(at+n, len(p))], time.Time{}, Position{Byte: int64(at)})
		}
		require.NoError(t, l.Finish(Final{}))
		require.Equal(t, linesOf(string(p)), texts(all(t, l), Output, Repeat))
	})
}

// killedWriter is the environment variable that makes this test's program write
// to the log that it names until it is killed.
const killedWriter = "LOGSTREAM_TEST_WRITE"

// numbered returns line i of what the killed writer prints.
func numbered(i int) string { return fmt.Sprintf("line %08d\n", i) }

// writeUntilKilled goes on with the log at path, in pieces that end anywhere.
func writeUntilKilled(path string) {
	l, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	width := len(numbered(0))
	at := int(l.Position().Byte)
	for piece := 1; ; piece = piece%97 + 1 {
		var text strings.Builder
		for i := at / width; text.Len() < at%width+piece; i++ {
			text.WriteString(numbered(i))
		}
		l.Append([]byte(text.String()[at%width:at%width+piece]), time.Time{}, Position{Byte: int64(at)})
		at += piece
	}
}

// TestKilledInMidWrite kills a process that writes a log, with SIGKILL and again
// and again, and finds every line once and in order.
func TestKilledInMidWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for range 6 {
		before := sizeOf(path)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedWriter+"="+path)
		require.NoError(t, cmd.Start())
		for deadline := time.Now().Add(20 * time.Second); sizeOf(path) < before+10_000; {
			require.True(t, time.Now().Before(deadline), "it writes nothing")
			<-time.After(time.Millisecond)
		}
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	records := all(t, open(t, path))
	for i, r := range records {
		number, err := strconv.Atoi(strings.TrimPrefix(r.Text, "line "))
		require.NoError(t, err, "%q", r.Text)
		require.Equal(t, i, number)
	}
	require.Greater(t, len(records), 1000)
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestOffsetLeavesEntriesOut opens a log to which an older agent has added what it
// read from a container engine, in entries: where the output itself goes on is
// still known.
func TestOffsetLeavesEntriesOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	records := "2026-11-23T16:18:40.362683123Z o 0.0.4 one\n" +
		"2026-11-23T16:18:41.362683123Z o 1790000000000000000.1.5 an entry\n"
	require.NoError(t, os.WriteFile(path, []byte(records), 0o600))
	l, err := Open(path, Options{})
	require.NoError(t, err)
	defer l.Close()
	require.EqualValues(t, 4, l.Offset())
	require.Equal(t, Position{Stamp: 1790000000000000000, Count: 1, Byte: 5}, l.Position())
	l.Append([]byte("two\n"), time.Time{}, Position{Byte: 4})
	require.EqualValues(t, 8, l.Offset())
	require.Equal(t, Position{Byte: 8}, l.Position())
}
