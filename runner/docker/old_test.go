package docker

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/runner"
)

// TestCursor cuts a log at any byte, opens it again as the engine would give it,
// and expects every byte once and in order, however the stamps jump.
func TestCursor(t *testing.T) {
	t.Parallel()
	type entry struct {
		stamp int64
		text  string
	}
	rapid.Check(t, func(t *rapid.T) {
		base := int64(1_800_000_000_000_000_000)
		var log []entry
		var want strings.Builder
		for range rapid.IntRange(1, 30).Draw(t, "entries") {
			e := entry{
				stamp: base + rapid.Int64Range(0, 4).Draw(t, "stamp"),
				text:  rapid.StringMatching(`[a-z]{0,4}\n?`).Draw(t, "text"),
			}
			base += rapid.OneOf(rapid.Int64Range(0, 2), rapid.Just(int64(-3600e9))).Draw(t, "step")
			log = append(log, e)
			want.WriteString(e.text)
		}
		var got strings.Builder
		var pos runner.Position
		for stops := rapid.IntRange(0, 4).Draw(t, "stops"); stops >= 0; stops-- {
			c := cursor{pos: pos}
			c.reopen()
			budget := rapid.IntRange(0, want.Len()).Draw(t, "budget")
			for _, e := range log {
				rest, from := c.take(e.stamp, []byte(e.text))
				if c.skipping {
					continue
				}
				if stops > 0 && budget < len(rest) {
					got.Write(rest[:budget])
					from.Byte += int64(budget)
					pos = from
					break
				}
				budget -= len(rest)
				got.Write(rest)
				from.Byte += int64(len(rest))
				c.pos, pos = from, from
			}
		}
		if got.String() != want.String() {
			t.Fatalf("got %q, want %q", got.String(), want.String())
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x1d2026-11-23T16:16:01.5Z hello\n"))
	f.Add([]byte("\x03\x00\x00\x00\x00\x00\x00\x02no"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		r := entryReader{r: bufio.NewReader(bytes.NewReader(data))}
		for {
			if _, _, err := r.next(); err != nil {
				return
			}
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	got := strings.Join(append(names("abc"), names("0123456789")...), " ")
	if got != "kitt-run-abc kitt-run-01234567 kitt-run-0123456789" {
		t.Fatal(got)
	}
}

// TestCutLog has the engine lose the entry at which a log is to be resumed.
func TestCutLog(t *testing.T) {
	t.Parallel()
	c := cursor{pos: runner.Position{Stamp: 100, Count: 2, Byte: 3}}
	c.reopen()
	rest, from := c.take(200, []byte("later\n"))
	if string(rest) != "later\n" || from != (runner.Position{Stamp: 200}) || !c.cut || c.skipping {
		t.Fatalf("%q %+v %+v", rest, from, c)
	}
}
