package logstream

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// assembler makes lines of what a benchmark prints. It holds the line that is
// open, and what of it was shown.
type assembler struct {
	open     []byte // the line so far
	carriage bool   // whether it ended with \r; what follows says of which kind
	bar      bool   // whether an earlier state of it was overwritten

	state    []byte // the latest state that was overwritten before it was shown
	hasState bool

	shown     []byte // the state that was shown last
	hasShown  bool
	shownAt   time.Time
	changedAt time.Time // when something to show first came up

	end Position // after the last byte that is settled: in a record, or dropped
	now Position // after the last byte that was taken
}

// emit takes a record that is due.
type emit func(kind Kind, pos Position, text []byte)

// take takes p, which begins at position from, and emits the lines that end in
// it.
func (a *assembler) take(p []byte, from Position, out emit) {
	a.now = from
	for len(p) > 0 {
		if a.carriage {
			a.carriage = false
			if p[0] == '\n' {
				p = a.advance(p, 1)
				a.endLine(out)
				continue
			}
			a.overwrite()
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			a.grow(p, out)
			return
		}
		end := p[i]
		a.grow(p[:i], out)
		p = p[i:]
		p = a.advance(p, 1)
		if end == '\n' {
			a.endLine(out)
		} else {
			a.carriage = true
		}
	}
}

// advance moves past n bytes of p.
func (a *assembler) advance(p []byte, n int) []byte {
	a.now.Byte += int64(n)
	return p[n:]
}

// grow adds p to the open line, and emits what makes it too long.
func (a *assembler) grow(p []byte, out emit) {
	for len(a.open)+len(p) > MaxLine {
		n := MaxLine - len(a.open)
		a.open = append(a.open, p[:n]...)
		p = a.advance(p, n)
		// Not within a character, unless the part of it came before this entry
		// of the source, to where no position leads back.
		keep := incomplete(a.open)
		if int64(keep) > a.now.Byte {
			keep = 0
		}
		cut := len(a.open) - keep
		a.end = a.now
		a.end.Byte -= int64(keep)
		out(Continued, a.end, a.open[:cut])
		a.open = append(a.open[:0], a.open[cut:]...)
		a.forget()
	}
	a.open = append(a.open, p...)
	a.advance(p, len(p))
}

// incomplete returns how many bytes at the end of p begin a character without
// ending it.
func incomplete(p []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(p)); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// endLine emits the open line as a whole one.
func (a *assembler) endLine(out emit) {
	kind := Output
	if a.hasShown && bytes.Equal(a.shown, a.open) {
		kind = Repeat
	}
	a.end = a.now
	out(kind, a.end, a.open)
	a.open = a.open[:0]
	a.bar = false
	a.forget()
}

// overwrite takes the open line for a state of a progress bar: the next one
// begins where it began.
func (a *assembler) overwrite() {
	if !blank(a.open) {
		a.state = append(a.state[:0], a.open...)
		a.hasState = true
		a.bar = true
	}
	a.open = a.open[:0]
	a.end = a.now // its bytes are never needed again
}

// forget drops what was shown of a line that has ended.
func (a *assembler) forget() {
	a.hasShown, a.hasState = false, false
	a.shown, a.state = a.shown[:0], a.state[:0]
	a.changedAt = time.Time{}
}

func blank(p []byte) bool { return len(bytes.TrimSpace(p)) == 0 }

// pending returns the state that should be shown, nil if nothing new is there.
func (a *assembler) pending() []byte {
	latest := a.open
	if blank(latest) {
		if !a.hasState {
			return nil
		}
		latest = a.state
	}
	if a.hasShown && bytes.Equal(latest, a.shown) {
		return nil
	}
	return latest
}

// due returns when the pending state is to be shown, the zero time if nothing
// is pending. now is when it is asked.
func (a *assembler) due(now time.Time) time.Time {
	if a.pending() == nil {
		a.changedAt = time.Time{}
		return time.Time{}
	}
	if a.changedAt.IsZero() {
		a.changedAt = now
	}
	at := a.changedAt.Add(showAfter)
	if a.hasShown {
		every := openEvery
		if a.bar {
			every = progressEvery
		}
		if next := a.shownAt.Add(every); next.After(at) {
			at = next
		}
	}
	return at
}

// show emits the pending state, if it is due.
func (a *assembler) show(now time.Time, out emit) {
	latest := a.pending()
	if at := a.due(now); latest == nil || at.After(now) {
		return
	}
	out(Progress, a.end, latest)
	a.shown = append(a.shown[:0], latest...)
	a.hasShown, a.hasState = true, false
	a.shownAt, a.changedAt = now, time.Time{}
}

// flush ends a line that was left open at the end of the output.
func (a *assembler) flush(out emit) {
	switch {
	case len(a.open) > 0:
		a.endLine(out)
	case a.pending() != nil:
		// A bar that ended with \r: its last state is its line.
		a.open = append(a.open[:0], a.pending()...)
		a.endLine(out)
	}
	a.carriage = false
}
