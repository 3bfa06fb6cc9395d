package logstream

import (
	"bytes"
	"slices"
	"time"
	"unicode/utf8"
)

// assembler makes lines of what a benchmark prints. It holds the line that is
// open, and what of it was shown.
type assembler struct {
	secrets Redactor

	open     []byte   // the line so far, from its last carriage return on
	begin    Position // where open begins
	carriage bool     // whether it ended with \r; what follows says of which kind
	state    []byte   // the latest state of the line that was overwritten
	bar      bool     // whether there is one

	shown     []byte // what was shown last of the line
	hasShown  bool
	shownAt   time.Time
	changed   bool      // whether the open line may have something that was not shown
	changedAt time.Time // when that was first seen

	// settled is where the output is to be fed from to get the open line again:
	// what comes before is in records, or of no use.
	settled Position
	now     Position // after the last byte that was taken

	// marks tell where the open line crosses from one entry of the source into
	// the next, so that a place within it can be named.
	marks []mark
}

// mark is a place in the open line, and its position in the entry that ends
// there.
type mark struct {
	at  int
	pos Position
}

// maxMarks bounds the marks that are kept; the latest are those of use.
const maxMarks = 16

// emit takes a record that is due. The text is valid UTF-8 without secrets.
type emit func(kind Kind, pos Position, text []byte)

// take takes p, which begins at position from, and emits the lines that end in
// it. If p begins where the open line does, that comes again.
func (a *assembler) take(p []byte, from Position, out emit) {
	if from != a.now {
		if from == a.settled {
			a.open, a.marks, a.bar, a.carriage = a.open[:0], a.marks[:0], false, false
		}
		if len(a.open) > 0 {
			if len(a.marks) == maxMarks {
				a.marks = slices.Delete(a.marks, 0, 1)
			}
			a.marks = append(a.marks, mark{len(a.open), a.now})
		} else if !a.carriage {
			a.begin = from
		}
		a.now = from
	}
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		a.takeLine(p[:n], out)
		p = p[n:]
	}
}

// takeLine takes p, which holds a newline at its end or nowhere. A progress bar
// is many states in one line: each of its bytes is searched for a newline once,
// by the caller.
func (a *assembler) takeLine(p []byte, out emit) {
	for len(p) > 0 {
		if a.carriage {
			switch p[0] {
			case '\r': // one of several, as terminals write
				p = a.advance(p, 1)
				continue
			case '\n':
				a.carriage = false
				a.advance(p, 1)
				a.endLine(Output, out)
				return
			}
			a.carriage = false
			a.overwrite()
		}
		line := p
		if i := bytes.IndexByte(p, '\r'); i >= 0 {
			line = p[:i]
		} else if p[len(p)-1] == '\n' {
			line = p[:len(p)-1]
		}
		a.grow(line, out)
		if p = p[len(line):]; len(p) == 0 {
			return
		}
		if p[0] == '\r' {
			a.carriage, a.changed = true, true
			p = a.advance(p, 1)
			continue
		}
		a.advance(p, 1)
		a.endLine(Output, out)
		return
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
		// Neither within a character nor within a secret, if it can be named
		// where that begins.
		cut := len(a.open) - max(incomplete(a.open), a.secrets.partial(a.open, 1))
		at, ok := a.place(cut)
		if !ok || cut == 0 {
			cut, at = len(a.open), a.now
		}
		a.settled, a.begin = at, at
		out(Continued, at, a.clean(a.open[:cut]))
		a.open = append(a.open[:0], a.open[cut:]...)
		a.marks = slices.DeleteFunc(a.marks, func(m mark) bool { return m.at <= cut })
		for i := range a.marks {
			a.marks[i].at -= cut
		}
		a.forget()
	}
	a.open = append(a.open, p...)
	a.changed = a.changed || len(a.open) > 0
	a.advance(p, len(p))
}

// place returns the position of byte k of the open line, and whether it is
// known.
func (a *assembler) place(k int) (Position, bool) {
	pos, at := a.now, len(a.open)
	for _, m := range slices.Backward(a.marks) {
		if m.at <= k {
			break
		}
		pos, at = m.pos, m.at
	}
	pos.Byte -= int64(at - k)
	return pos, pos.Byte >= 0
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

// clean returns text as it goes into a record: valid UTF-8 without secrets.
func (a *assembler) clean(text []byte) []byte {
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	return a.secrets.replace(text)
}

// endLine emits the open line as a whole one. A bar that was wiped before its
// line ended leaves its last state.
func (a *assembler) endLine(kind Kind, out emit) {
	text := a.open
	if a.bar && blank(text) {
		text = a.state
	}
	text = a.clean(text)
	if a.hasShown && bytes.Equal(a.shown, text) {
		kind = Repeat
	}
	a.settled, a.begin = a.now, a.now
	out(kind, a.now, text)
	a.open, a.marks = a.open[:0], a.marks[:0]
	a.forget()
}

// overwrite takes the open line for a state of a progress bar: the next one
// begins where it began. The last state stays unsettled, since it may be all
// that is left of the line.
func (a *assembler) overwrite() {
	switch {
	case !blank(a.open):
		a.state = append(a.state[:0], a.open...)
		a.bar = true
		a.settled = a.begin
	case !a.bar:
		a.settled = a.now
	}
	a.open, a.marks = a.open[:0], a.marks[:0]
	a.begin = a.now
}

// forget drops what is known of a line that has ended.
func (a *assembler) forget() {
	a.bar, a.hasShown, a.changed = false, false, false
	a.state, a.shown = a.state[:0], a.shown[:0]
	a.changedAt = time.Time{}
}

func blank(p []byte) bool { return len(bytes.TrimSpace(p)) == 0 }

// pending returns the text that should be shown, nil if nothing new is there.
// What may be the beginning of a secret, or of a character, is held back.
func (a *assembler) pending() []byte {
	latest := a.open
	if !a.carriage {
		latest = latest[:len(latest)-max(incomplete(latest), a.secrets.partial(latest, minHint))]
	}
	if blank(latest) {
		if !a.bar {
			return nil
		}
		latest = a.state
	}
	latest = a.clean(latest)
	if a.hasShown && bytes.Equal(latest, a.shown) {
		return nil
	}
	return latest
}

// due returns when the open line is to be shown; the zero time if nothing has come
// since it was. now is when it is asked. It does not look at the line, which may be
// long and grow by a few bytes at a time.
func (a *assembler) due(now time.Time) time.Time {
	if !a.changed {
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

// show emits what is pending, if it is due.
func (a *assembler) show(now time.Time, out emit) {
	if at := a.due(now); at.IsZero() || at.After(now) {
		return
	}
	a.changed, a.changedAt = false, time.Time{}
	latest := a.pending()
	if latest == nil {
		return
	}
	a.shown = append(a.shown[:0], latest...)
	a.hasShown, a.shownAt = true, now
	out(Progress, a.settled, latest)
}

// unshow takes back that something was shown, since the disk refused it.
func (a *assembler) unshow() { a.hasShown, a.changed = false, true }

// flush ends a line that was left open at the end of the output. A blank state
// is none, there as elsewhere.
func (a *assembler) flush(out emit) {
	if a.carriage && blank(a.open) {
		a.overwrite()
	}
	if len(a.open) > 0 || a.bar {
		a.endLine(Output, out)
	}
	a.carriage = false
}

// resume goes on from what a log that was opened again holds: its last position,
// and what it showed last of the line that is open there, nil for nothing.
func (a *assembler) resume(pos Position, shown []byte) {
	a.settled, a.begin, a.now = pos, pos, pos
	if shown != nil {
		a.shown = append(a.shown[:0], shown...)
		a.hasShown, a.shownAt = true, time.Now()
	}
}
