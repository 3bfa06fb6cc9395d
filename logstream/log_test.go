package logstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killedWriter); path != "" {
		writeUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func fresh(t testing.TB) *Log { return open(t, filepath.Join(t.TempDir(), "log")) }

// all returns the records that are there.
func all(t require.TestingT, l *Log) []Record {
	var records []Record
	r := l.Reader(0)
	for r.Seq() < l.Len() {
		more, err := r.Next(context.Background())
		require.NoError(t, err)
		records = append(records, more...)
	}
	return records
}

func texts(records []Record, kinds ...Kind) []string {
	var out []string
	for _, r := range records {
		if len(kinds) == 0 || strings.ContainsRune(string(kindsText(kinds)), rune(r.Kind)) {
			out = append(out, r.Text)
		}
	}
	return out
}

func kindsText(kinds []Kind) []byte {
	b := make([]byte, len(kinds))
	for i, k := range kinds {
		b[i] = byte(k)
	}
	return b
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", MaxLine/2+10)
	for _, tt := range []struct {
		name  string
		given []string
		want  []string
	}{
		{"lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"pieces", []string{"a", "b\nc", "\n"}, []string{"ab", "c"}},
		{"windows", []string{"a\r\nb\r", "\n"}, []string{"a", "b"}},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"a bar keeps its last state", []string{"\r10%\r20%\r100%\n"}, []string{"100%"}},
		{"a bar on a terminal that doubles carriage returns", []string{"10%\r100%\r", "\r\n"}, []string{"100%"}},
		{"a bar that is wiped before its line ends", []string{"10%\r100%\r", "    \r\n", "\r  \n"}, []string{"100%", "  "}},
		{"a bar that is written over", []string{"10%\r      \rDone\n"}, []string{"Done"}},
		{"a bar that ends with a carriage return", []string{"10%\r100%\r"}, []string{"100%"}},
		{"open at the end", []string{"a\nb"}, []string{"a", "b"}},
		{"not UTF-8", []string{"a\xffb\n"}, []string{"a\uFFFDb"}},
		{"colour and NUL", []string{"\x1b[32mok\x1b[0m\x00\n"}, []string{"\x1b[32mok\x1b[0m\x00"}},
		{"too long, cut between characters", []string{long + "\n"}, []string{long[:MaxLine], long[MaxLine:]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := fresh(t)
			var at int64
			for _, p := range tt.given {
				l.Append([]byte(p), time.Time{}, Position{Byte: at})
				at += int64(len(p))
			}
			require.NoError(t, l.Finish(Final{Status: "completed"}))
			require.Equal(t, tt.want, texts(all(t, l)))
			require.True(t, l.Finished())
		})
	}
}

func TestALongLineIsMarkedAsContinued(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	l.Append([]byte(strings.Repeat("x", 200_000)+"\n"), time.Time{}, Position{})
	var kinds []Kind
	total := 0
	for _, r := range all(t, l) {
		kinds = append(kinds, r.Kind)
		total += len(r.Text)
	}
	require.Equal(t, []Kind{Continued, Continued, Continued, Output}, kinds)
	require.Equal(t, 200_000, total)
}

func TestNothingWaitsForANewline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		l.Append([]byte("Loading"), time.Time{}, Position{})
		<-time.After(400 * time.Millisecond)
		require.Zero(t, l.Len())
		<-time.After(200 * time.Millisecond)
		require.Equal(t, []string{"Loading"}, texts(all(t, l), Progress))
		l.Append([]byte("\n"), time.Time{}, Position{Byte: 7})
		records := all(t, l)
		require.Len(t, records, 2)
		require.True(t, records[1].Repeats(), "it ended as it was shown")
		require.Equal(t, "Loading", records[1].Text)
	})
}

func TestABarShowsAboutOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		var at int64
		for i := range 600 { // a minute of tqdm
			text := fmt.Sprintf("\r%d%%", i/6)
			l.Append([]byte(text), time.Time{}, Position{Byte: at})
			at += int64(len(text))
			<-time.After(100 * time.Millisecond)
		}
		l.Append([]byte("\r100%\n"), time.Time{}, Position{Byte: at})
		states := texts(all(t, l), Progress)
		require.Greater(t, len(states), 50)
		require.Less(t, len(states), 70)
		require.Equal(t, []string{"100%"}, texts(all(t, l), Output, Repeat))
	})
}

func TestALineThatOnlyGrowsIsNotShownAtEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		for i := range 60 {
			l.Append([]byte("."), time.Time{}, Position{Byte: int64(i)})
			<-time.After(time.Second)
		}
		require.LessOrEqual(t, l.Len(), int64(14))
	})
}

func TestNotesStandBetweenLines(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	l.Append([]byte("half"), time.Time{}, Position{})
	before := l.Position()
	l.Note("one\ntwo\r")
	require.Equal(t, before, l.Position())
	l.Append([]byte(" whole\n"), time.Time{}, Position{Byte: 4})
	require.Equal(t, []string{"one", "two", "half whole"}, texts(all(t, l)))
}

func TestADamagedMiddleIsSaid(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	require.NoError(t, err)
	l.Append([]byte("one\ntwo\nthree\n"), time.Time{}, Position{})
	require.NoError(t, l.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	lines[1] = "\x00\x00\x00garbage\n"
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600))
	again := open(t, path)
	records := all(t, again)
	require.Len(t, records, 3)
	require.Equal(t, Gap, records[1].Kind)
	require.Equal(t, "three", records[2].Text)
}

func TestReadersFollowToTheEnd(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	const n, readers = 5000, 20
	done := make(chan []Record, readers)
	for i := range readers {
		go func() {
			var got []Record
			r := l.Reader(int64(i))
			for {
				more, err := r.Next(context.Background())
				if err == io.EOF {
					done <- got
					return
				}
				got = append(got, more...)
			}
		}()
	}
	var at int64
	for i := range n {
		line := fmt.Sprintf("line %d\n", i)
		l.Append([]byte(line), time.Time{}, Position{Byte: at})
		at += int64(len(line))
	}
	require.NoError(t, l.Finish(Final{Status: "failed", Error: "Exit 1"}))
	lengths := map[int]bool{}
	for range readers {
		got := <-done
		for i, r := range got {
			require.Equal(t, fmt.Sprintf("line %d", r.Seq), r.Text)
			require.Equal(t, got[0].Seq+int64(i), r.Seq)
		}
		lengths[len(got)] = true
	}
	for i := range readers {
		require.True(t, lengths[n-i])
	}
}

func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	l, err := Open(filepath.Join(t.TempDir(), "log"), Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Reader(0).Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	done := make(chan error)
	go func() {
		_, err := l.Reader(0).Next(context.Background())
		done <- err
	}()
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-done, os.ErrClosed)
	require.NoError(t, l.Close())
}

func TestCompressedLogsReadTheSame(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	require.NoError(t, err)
	l.Append([]byte(strings.Repeat("the same line again\n", 10_000)), time.Time{}, Position{})
	require.NoError(t, l.Finish(Final{Status: "completed"}))
	want := all(t, l)
	require.NoError(t, l.Close())
	plain, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, Compress(path))
	small, err := os.Stat(path + Suffix)
	require.NoError(t, err)
	require.Less(t, small.Size(), plain.Size()/10)
	require.NoFileExists(t, path)
	again := open(t, path)
	require.Equal(t, want, all(t, again))
	final, ok := again.Final()
	require.True(t, ok)
	require.Equal(t, Final{Status: "completed"}, final)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".log-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestStripANSI(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"plain":                                    "plain",
		"\x1b[32mgreen\x1b[0m":                     "green",
		"\x1b[38;2;1;2;3mx\x1b[K":                  "x",
		"\x1b]0;title\x07text":                     "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1b(Bx\x1b=y":                            "xy",
		"\u009b1mbold":                             "bold",
		"end\x1b":                                  "end",
		"\x1b]unfinished":                          "unfinished",
		"ä\x1b[1mö":                                "äö",
	} {
		require.Equal(t, want, StripANSI(given), "%q", given)
	}
}

func FuzzStripANSI(f *testing.F) {
	f.Add("\x1b[32mok\x1b[0m")
	f.Add("\x1b]0;t\x07")
	f.Add("\x1b\x1b[\u009b")
	f.Fuzz(func(t *testing.T, s string) {
		got := StripANSI(s)
		require.LessOrEqual(t, len(got), len(s))
		require.NotContains(t, got, "\x1b")
		if utf8.ValidString(s) {
			require.True(t, utf8.ValidString(got))
		}
		if !strings.ContainsAny(s, "\x1b\u009b") {
			require.Equal(t, s, got)
		}
	})
}

// FuzzOpen opens whatever may be on disk: it is never an error, and what is
// appended afterwards is there.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("2026-11-23T16:18:40.362683123Z o 0.0.1024 Loading model\n"))
	f.Add([]byte("2026-11-23T16:18:40.000000000Z f 0.0.0 {\"status\":\"x\"}\n"))
	f.Add([]byte("\x00\n\n2026"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		l, err := Open(path, Options{})
		require.NoError(t, err)
		defer l.Close()
		n := l.Len()
		require.Len(t, all(t, l), int(n))
		if l.Finished() {
			return
		}
		l.Note("new")
		records := all(t, l)
		require.Len(t, records, int(n)+1)
		require.Equal(t, "new", records[n].Text)
	})
}
