package docker

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
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
		var pos position
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
	c := cursor{pos: position{Stamp: 100, Count: 2, Byte: 3}}
	c.reopen()
	rest, from := c.take(200, []byte("later\n"))
	if string(rest) != "later\n" || from != (position{Stamp: 200}) || !c.cut || c.skipping {
		t.Fatalf("%q %+v %+v", rest, from, c)
	}
}

// keptOld is an Output as the agent's is.
type keptOld struct {
	text string
	pos  position
}

func (*keptOld) WriteMessage(string) error { return nil }
func (*keptOld) WriteOutput([]byte, time.Time, runner.Position) error {
	panic("not a position of the log's")
}
func (k *keptOld) OldPosition() (stamp, count, byteAt int64) {
	return k.pos.Stamp, k.pos.Count, k.pos.Byte
}

func (k *keptOld) WriteOldOutput(p []byte, _ time.Time, stamp, count, byteAt int64) error {
	k.text += string(p)
	k.pos = position{stamp, count, byteAt + int64(len(p))}
	return nil
}

// TestOldPositionsGoBothWays follows a container of an older agent, whose
// positions an older one must understand after a rollback.
func TestOldPositionsGoBothWays(t *testing.T) {
	t.Parallel()
	log := []struct {
		stamp int64
		text  string
	}{{100, "one\n"}, {100, "two\n"}, {200, "three\n"}, {200, "four\n"}}
	out := &keptOld{text: "one\nt", pos: position{100, 1, 1}} // as an older agent left it
	l := newEngineLog(&follower{out: out}, 0)
	l.cursor.reopen()
	for _, e := range log {
		rest, from := l.cursor.take(e.stamp, []byte(e.text))
		if l.cursor.skipping {
			continue
		}
		l.pass(rest, time.Unix(0, e.stamp), from)
		from.Byte += int64(len(rest))
		l.cursor.pos = from
	}
	if out.text != "one\ntwo\nthree\nfour\n" || out.pos != (position{200, 1, 5}) {
		t.Fatalf("%q %+v", out.text, out.pos)
	}
}

// TestOldContainersForOtherOutputs passes on to an Output that knows bytes alone.
func TestOldContainersForOtherOutputs(t *testing.T) {
	t.Parallel()
	var out runnertest.Recorder
	l := newEngineLog(&follower{out: &out}, 6)
	for _, text := range []string{"one\n", "two\n", "three\n"} {
		l.pass([]byte(text), time.Time{}, position{Stamp: 1})
	}
	if out.Text() != "o\nthree\n" || out.Position() != 14 {
		t.Fatalf("%q %d", out.Text(), out.Position())
	}
}
