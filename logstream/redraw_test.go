package logstream

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// logOf returns the lines of a log that took output in pieces of the given size,
// without colours.
func logOf(t testing.TB, output []byte, size int) []string {
	l := fresh(t)
	for at := 0; at < len(output); at += size {
		l.Append(output[at:min(at+size, len(output))], time.Time{}, Position{Byte: int64(at)})
	}
	require.NoError(t, l.Finish(Final{}))
	lines := texts(all(t, l), Output, Repeat, Continued)
	for i := range lines {
		lines[i] = StripANSI(lines[i])
	}
	return lines
}

// TestRealProgressBars takes what tqdm and rich print, see testdata/redraw/record.py,
// in pieces of every size.
func TestRealProgressBars(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/redraw/*.raw")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".raw")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				output, err := os.ReadFile(file)
				require.NoError(t, err)
				golden := strings.TrimSuffix(file, ".raw") + ".golden"
				if *update {
					got := strings.Join(logOf(t, output, len(output)), "\n") + "\n"
					require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err)
				for _, size := range []int{1, 2, 3, 5, 7, 64, 1000, len(output)} {
					require.Equal(t, string(want), strings.Join(logOf(t, output, size), "\n")+"\n", "pieces of %d bytes", size)
				}
			})
		})
	}
}

// TestACrashWhileRowsAreRedrawn cuts what real programs print anywhere, with a crash
// there: no line is lost, and none is there twice.
func TestACrashWhileRowsAreRedrawn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/redraw/*.raw")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			output, err := os.ReadFile(file)
			require.NoError(t, err)
			want, err := os.ReadFile(strings.TrimSuffix(file, ".raw") + ".golden")
			require.NoError(t, err)
			for cut := 1; cut < len(output); cut += 1 + len(output)/300 {
				path := filepath.Join(t.TempDir(), "log")
				l, err := Open(path, Options{})
				require.NoError(t, err)
				l.Append(output[:cut], time.Time{}, Position{})
				l.Note("The agent stops")
				require.NoError(t, l.Close())
				l, err = Open(path, Options{})
				require.NoError(t, err)
				at := l.Position()
				l.Append(output[at.Byte:], time.Time{}, at)
				require.NoError(t, l.Finish(Final{}))
				var got strings.Builder
				for _, line := range texts(all(t, l), Output, Repeat) {
					got.WriteString(StripANSI(line) + "\n")
				}
				require.NoError(t, l.Close())
				require.Equal(t, string(want), got.String(), "cut at byte %d", cut)
			}
		})
	}
}

func TestRedrawing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		given string
		want  []string
	}{
		{"erased to the end of the line", "10%\r\x1b[K20%\r\x1b[K100%\n", []string{"100%"}},
		{"erased whole", "10%\x1b[2K\r20%\x1b[2K\r100%\x1b[2K\r\n", []string{"100%"}},
		{"first column", "10%\x1b[1G20%\x1b[G100%\n", []string{"100%"}},
		{"a later column", "shard 0%\x1b[7G50%\x1b[7G100%\n", []string{"shard 100%"}},
		{"erased from a column on", "shard 0% slow\x1b[7G100%\x1b[K\n", []string{"shard 100%"}},
		{"erased before the cursor", "abcdef\x1b[3D\x1b[1K\n", []string{"    ef"}},
		{"backspaces of a spinner", "Loading |\b/\b-\b\\\b \bdone\n", []string{"Loading done"}},
		{"cursor back and on", "0/9\x1b[3D5\x1b[2C!\n", []string{"5/9!"}},
		{"cursor saved", "rate: \x1b[s1 t/s\x1b[u22 t/s\x1b[u333 t/s\n", []string{"rate: 333 t/s"}},
		{"cursor saved, as DEC does", "rate: \x1b71 t/s\x1b822 t/s\n", []string{"rate: 22 t/s"}},
		{"colours stay", "\x1b[31m10%\x1b[0m\r\x1b[K\x1b[32m100%\x1b[0m\n", []string{"100%"}},
		{"a colour behind the carriage return", "100%\r\x1b[0m\r\n", []string{"100%"}},
		{"erase after matches, as grep does", "\x1b[01;31m\x1b[Kmatch\x1b[m\x1b[K here\n", []string{"match here"}},
		{"cursor hidden", "\x1b[?25l10%\r100%\n\x1b[?25h", []string{"100%"}},
		{"wide characters", "名前 0%\x1b[6G100%\n", []string{"名前 100%"}},
		{"tab", "a\tb\x1b[9Gc\n", []string{"a       c"}},
		{"block above the cursor", "a 0%\nb 0%\n\x1b[2Aa 50%\nb 50%\n\x1b[2Aa 100%\nb 100%\nDone\n", []string{"a 0%", "b 0%", "a 100%", "b 100%", "Done"}},
		{"block whose first row stays", "head\nb 0%\n\x1b[2Ahead\nb 50%\n\x1b[2F\x1b[E\x1b[2Kb 100%\n", []string{"head", "b 0%", "b 100%"}},
		{"block that is erased below the cursor", "a 0%\nb 0%\n\x1b[2A\x1b[JDone\n\n", []string{"a 0%", "b 0%", "Done"}},
		{"nested, more than a thousand updates", "all 0%" + strings.Repeat("\n\rone 5%\x1b[A\rall 7%", 2000) + "\n\rone 100%\x1b[A\rall 100%\nDone\n", []string{"all 0%", "all 100%", "Done"}},
		{"lines go on below", "a\nb\n\x1b[1Abb\nc\nd\ne\n", []string{"a", "b", "bb", "c", "d", "e"}},
		{"up from the first line", "\x1b[5Aa\nb\n", []string{"a", "b"}},
		{"a very long way up", "a\n\x1b[99999Ab\n\x1b[99999Bc\n", []string{"a", "b", "c"}},
		{"a sequence cut by a line end", "a\x1b[3\nb\x1b\n", []string{"a", "b"}},
		{"a sequence without an end", "a\x1b[3", []string{"a"}},
		{"not UTF-8", "ab\bc\xff\xc3\n", []string{"ac\uFFFD\uFFFD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 1 << 20} {
				require.Equal(t, tt.want, logOf(t, []byte(tt.given), size), "pieces of %d bytes", size)
			}
		})
	}
}

// TestALineKeepsItsColoursWhenRedrawn redraws a part of it.
func TestALineKeepsItsColoursWhenRedrawn(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	l.Append([]byte("\x1b[32mok\x1b[0m 10%\x1b[4G\x1b[1;31m100%\x1b[0m\n"), time.Time{}, Position{})
	require.Equal(t, []string{"\x1b[32mok\x1b[0m \x1b[1;31m100%\x1b[0m"}, texts(all(t, l)))
}

// TestRedrawnRowsAreShown: nested bars are shown once a second, and rows that the
// program left behind are lines soon.
func TestRedrawnRowsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		var at int64
		put := func(text string) {
			l.Append([]byte(text), time.Time{}, Position{Byte: at})
			at += int64(len(text))
		}
		put("all 0%")
		for i := range 100 {
			put(fmt.Sprintf("\n\rone %d%%\x1b[A", i))
			time.Sleep(50 * time.Millisecond)
			put(fmt.Sprintf("\rall %d%%", i))
			time.Sleep(50 * time.Millisecond)
		}
		states := texts(all(t, l), Progress)
		require.Greater(t, len(states), 7)
		require.Less(t, len(states), 15)
		require.Equal(t, []string{"all 0%"}, texts(all(t, l), Output, Repeat))
		put("\rall 100%\n\rLoading the model\n")
		time.Sleep(showAfter)
		synctest.Wait()
		require.Equal(t, []string{"all 0%", "all 100%", "Loading the model"}, texts(all(t, l), Output, Repeat))
		require.Equal(t, at, l.Position().Byte)
	})
}

// TestNoPartOfASecretIsShownWhenRedrawn draws it a few characters at a time.
func TestNoPartOfASecretIsShownWhenRedrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := secretive(t, "hf_abcdefgh")
		l.Append([]byte("x\b"), time.Time{}, Position{})
		for _, c := range "token hf_abcdefgh!" {
			l.Append([]byte(string(c)), time.Time{}, Position{Byte: 2})
			time.Sleep(2 * time.Second)
		}
		require.NoError(t, l.Finish(Final{}))
		for _, r := range all(t, l) {
			require.NotContains(t, r.Text, "hf_a")
		}
		require.Equal(t, []string{"token [redacted]!"}, texts(all(t, l), Output, Repeat))
	})
}

// A terminal is the plain and slow way to get what redrawing leaves. It has
// characters of one column only.
type terminal struct {
	rows        [][]rune
	wiped       []string // what each row showed before it was erased
	row, column int
	fresh       bool // a line end or a carriage return came: text begins a new state of the row
}

func (t *terminal) wipe(row int) {
	if text := strings.TrimSpace(string(t.rows[row])); text != "" {
		t.wiped[row] = strings.TrimRight(string(t.rows[row]), " ")
	}
	t.rows[row] = nil
}

func (t *terminal) grow() {
	for len(t.rows) <= t.row {
		t.rows, t.wiped = append(t.rows, nil), append(t.wiped, "")
	}
}

func (t *terminal) write(text string) {
	if t.fresh {
		t.wipe(t.row)
	}
	t.fresh = false
	for _, c := range text {
		if old := strings.TrimRight(string(t.rows[t.row]), " "); t.column == 0 && c == ' ' && old != "" {
			t.wiped[t.row] = old
		}
		for len(t.rows[t.row]) <= t.column {
			t.rows[t.row] = append(t.rows[t.row], ' ')
		}
		t.rows[t.row][t.column] = c
		t.column++
	}
}

// lines returns what the rows show that are not blank; those that were wiped, what
// they showed then.
func (t *terminal) lines() []string {
	var lines []string
	for i, row := range t.rows {
		line := strings.TrimRight(string(row), " ")
		if strings.TrimSpace(line) == "" && t.wiped[i] != "" {
			line = t.wiped[i]
		}
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// drawStep draws one thing that a program does, does it to the terminal and returns
// what the program prints.
func (t *terminal) drawStep(r *rapid.T) string {
	t.grow()
	n := rapid.IntRange(1, 3).Draw(r, "n")
	number := string(rune('0' + n))
	row := t.rows[t.row]
	step := rapid.IntRange(0, 11).Draw(r, "step")
	t.fresh = t.fresh && (step < 3 || step == 10)
	switch step {
	case 0, 1, 2:
		text := rapid.StringMatching(`[ab%█ ]{1,6}`).Draw(r, "text")
		t.write(text)
		return text
	case 3:
		t.column, t.fresh = 0, true
		return "\r"
	case 4:
		t.row, t.column, t.fresh = t.row+1, 0, true
		return "\n"
	case 5:
		t.row -= min(n, t.row)
		return "\x1b[" + number + "A"
	case 6:
		t.row, t.column = min(t.row+n, len(t.rows)-1), 0
		return "\x1b[" + number + "E"
	case 7:
		if t.column == 0 {
			t.wipe(t.row)
		} else {
			t.rows[t.row] = row[:min(t.column, len(row))]
			if strings.TrimSpace(string(t.rows[t.row])) == "" && strings.TrimSpace(string(row)) != "" {
				t.wiped[t.row] = strings.TrimRight(string(row), " ")
			}
		}
		return "\x1b[K"
	case 8:
		t.wipe(t.row)
		return "\x1b[2K"
	case 9:
		t.column = n - 1
		return "\x1b[" + number + "G"
	case 10:
		t.column = max(0, t.column-1)
		return "\b"
	}
	t.column += n
	return "\x1b[" + number + "C"
}

// TestTheLastStateIsThatOfATerminal compares the log with a terminal, for any
// output, in any pieces, with pauses in between. Each row's last state is in the log.
// What else is there are states of rows that were lines before the program went back
// to them.
func TestTheLastStateIsThatOfATerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(timeless{t}, func(t *rapid.T) {
			defer os.Remove(path)
			var screen terminal
			var output strings.Builder
			ups := 0
			for range rapid.IntRange(1, 40).Draw(t, "steps") {
				before := screen.row
				output.WriteString(screen.drawStep(t))
				ups += max(0, before-screen.row)
			}
			screen.grow()
			records := recordsOf(t, path, output.String())
			requireRepeatsWereShown(t, records)
			got := slices.DeleteFunc(texts(records, Output, Repeat), func(line string) bool { return blank([]byte(line)) })
			left := map[string]int{}
			for _, line := range got {
				left[strings.TrimRight(line, " ")]++
			}
			for _, line := range screen.lines() {
				require.Positive(t, left[line], "%q of %q is missing in %q", line, output.String(), got)
				left[line]--
			}
			require.LessOrEqual(t, len(got)-len(screen.lines()), ups, "%q: %q", output.String(), got)
		})
	})
}

// recordsOf returns the records of a log at path that took output, in pieces, with
// pauses and notes in between.
func recordsOf(t *rapid.T, path, output string) []Record {
	l, err := Open(path, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	for at := 0; at < len(output); {
		n := rapid.IntRange(1, len(output)-at).Draw(t, "piece")
		l.Append([]byte(output[at:at+n]), time.Time{}, Position{Byte: int64(at)})
		at += n
		switch rapid.IntRange(0, 9).Draw(t, "then") {
		case 0:
			time.Sleep(time.Second)
		case 1:
			l.Note("note")
		}
	}
	require.NoError(t, l.Finish(Final{}))
	return all(t, l)
}

// FuzzRedraw takes any output, in two pieces, and again from where the log says.
// Nothing of it is a line end in a record, and it is valid UTF-8.
func FuzzRedraw(f *testing.F) {
	f.Add([]byte("a\n\x1b[Ab\x1b[2K\r\x1b[5Gc\bd\x1b7\n\x1b8\x1b[J"), 5)
	f.Add([]byte("\x1b]0;title\x07\x1b[38;2;1;2;3mx\x1b[1K\x1b[?25l"), 3)
	f.Add([]byte("\xe2\x96\b\xe2\x96\x88\x1b[D名\x1b[D\x1b[K"), 2)
	f.Fuzz(func(t *testing.T, output []byte, cut int) {
		cut = max(0, min(cut, len(output)))
		path := filepath.Join(t.TempDir(), "log")
		l, err := Open(path, Options{})
		require.NoError(t, err)
		l.Append(output[:cut], time.Time{}, Position{})
		require.LessOrEqual(t, l.Position().Byte, int64(cut))
		require.NoError(t, l.Close())
		l, err = Open(path, Options{})
		require.NoError(t, err)
		defer l.Close()
		at := l.Position()
		require.GreaterOrEqual(t, at.Byte, int64(0))
		l.Append(output[at.Byte:], time.Time{}, at)
		require.NoError(t, l.Finish(Final{}))
		once := logOf(t, output, max(1, len(output)))
		var lines []string
		for _, line := range texts(all(t, l), Output, Repeat, Continued) {
			require.NotContains(t, line, "\n")
			require.NotContains(t, line, "\r")
			lines = append(lines, StripANSI(line))
		}
		require.Equal(t, once, lines)
		require.LessOrEqual(t, len(lines), bytes.Count(output, []byte("\n"))+1+maxRows)
	})
}
