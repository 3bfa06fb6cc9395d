package logstream

import (
	"bytes"
	"slices"
	"time"
	"unicode/utf8"
)

// assembler makes lines of what a benchmark prints. It holds the line that is
// open, and what of it was shown. While a program redraws more than that line, or
// within it, a screen takes its place.
type assembler struct {
	secrets Redactor
	redraw  redraw

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
		a.jump(from, out)
	}
	a.redraw.idleAt = time.Time{}
	if part := a.redraw.part; len(part) > 0 {
		a.now.Byte -= int64(len(part))
		p = append(part, p...)
		a.redraw.part = nil
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

// jump goes on at another position: where the open line begins, or in the next
// entry of the source.
func (a *assembler) jump(from Position, out emit) {
	if from == a.settled {
		a.open, a.marks, a.bar, a.carriage = a.open[:0], a.marks[:0], false, false
		a.redraw.again()
	} else {
		a.takePart(out)
		a.redraw.skip = 0
	}
	if len(a.open) > 0 {
		a.mark()
	} else if !a.carriage {
		a.begin = from
	}
	a.now = from
}

// mark notes where in the output the open line ends so far: what comes next of it
// stands elsewhere.
func (a *assembler) mark() {
	if len(a.marks) == maxMarks {
		a.marks = slices.Delete(a.marks, 0, 1)
	}
	a.marks = append(a.marks, mark{len(a.open), a.now})
}

// takeLine takes p, which holds a newline at its end or nowhere. A progress bar
// is many states in one line: each of its bytes is searched for a newline once,
// by the caller, and for what redraws once, here.
func (a *assembler) takeLine(p []byte, out emit) {
	escape, back := -1, -1 // where the next ones are, as seen from the end of p
	for len(p) > 0 {
		if a.redraw.screen != nil {
			p = a.draw(p, out)
			continue
		}
		if escape < 0 || escape > len(p) {
			escape = len(p) - indexByte(p, esc)
		}
		if back < 0 || back > len(p) {
			back = len(p) - indexByte(p, backspace)
		}
		if n := len(p) - max(escape, back); n > 0 {
			a.takeText(p[:n], out)
			p = p[n:]
			continue
		}
		p = a.control(p, out)
	}
}

// indexByte returns where c is in p; its end if it is not there.
func indexByte(p []byte, c byte) int {
	if i := bytes.IndexByte(p, c); i >= 0 {
		return i
	}
	return len(p)
}

// takeText takes p, which holds a newline at its end or nowhere, and nothing but
// carriage returns that redraws.
func (a *assembler) takeText(p []byte, out emit) {
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
		out(Continued, a.bear(), a.clean(a.open[:cut]))
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
	wiped := a.bar && blank(text)
	if wiped {
		text = a.state
	}
	text = a.clean(text)
	a.settled, a.begin = a.now, a.now
	a.say(kind, a.bear(), text, out)
	a.redraw.history.push(text, wiped)
	a.open, a.marks = a.open[:0], a.marks[:0]
	a.forget()
}

// say emits a line, unless the log has it already and it comes again.
func (a *assembler) say(kind Kind, pos Position, text []byte, out emit) {
	if a.redraw.skip > 0 {
		a.redraw.skip--
		return
	}
	if kind == Output && a.hasShown && bytes.Equal(a.shown, text) {
		kind = Repeat
	}
	out(kind, pos, text)
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

// pending returns the text that should be shown, nil if nothing new is there.
// What may be the beginning of a secret, or of a character, is held back.
func (a *assembler) pending() []byte {
	if a.redraw.screen != nil {
		return a.drawn()
	}
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
	return a.unlessShown(a.clean(latest))
}

// unlessShown returns a text, nil if it is what was shown last.
func (a *assembler) unlessShown(text []byte) []byte {
	if a.hasShown && bytes.Equal(text, a.shown) {
		return nil
	}
	return text
}

// due returns when something is to be emitted without more output; the zero time
// for never. now is when it is asked.
func (a *assembler) due(now time.Time) time.Time {
	show, idle := a.showDue(now), a.idleDue(now)
	if show.IsZero() || !idle.IsZero() && idle.Before(show) {
		return idle
	}
	return show
}

// showDue returns when the open line is to be shown; the zero time if nothing has
// come since it was. now is when it is asked. It does not look at the line, which
// may be long and grow by a few bytes at a time.
func (a *assembler) showDue(now time.Time) time.Time {
	if !a.changed {
		return time.Time{}
	}
	if a.changedAt.IsZero() {
		a.changedAt = now
	}
	at := a.changedAt.Add(showAfter)
	if a.hasShown {
		every := openEvery
		if a.bar || a.redraw.screen != nil {
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
	if at := a.idleDue(now); !at.IsZero() && !at.After(now) {
		a.leaveAbove(out)
	}
	if at := a.showDue(now); at.IsZero() || at.After(now) {
		return
	}
	a.changed, a.changedAt = false, time.Time{}
	latest := a.pending()
	if latest == nil {
		return
	}
	a.shown = append(a.shown[:0], latest...)
	a.hasShown, a.shownAt = true, now
	out(Progress, a.bear(), latest)
}

// unshow takes back that something was shown, since the disk refused it.
func (a *assembler) unshow() { a.hasShown, a.changed = false, true }

// flush ends a line that was left open at the end of the output. A blank state
// is none, there as elsewhere.
func (a *assembler) flush(out emit) {
	a.takePart(out)
	if a.redraw.screen != nil {
		a.leaveAll(Output, out)
	}
	if a.carriage && blank(a.open) {
		a.overwrite()
	}
	if len(a.open) > 0 || a.bar {
		a.endLine(Output, out)
	}
	a.carriage = false
}

// resume goes on from what a log that was opened again holds: its last position,
// how many lines it has of what comes after that, and what it showed last of the
// line that is open there, nil for nothing.
func (a *assembler) resume(pos Position, since int, shown []byte) {
	a.settled, a.begin, a.now = pos, pos, pos
	a.redraw.since, a.redraw.skip, a.redraw.last = since, since, pos
	a.redraw.history.rewind(since)
	if shown != nil {
		a.shown = append(a.shown[:0], shown...)
		a.hasShown, a.shownAt = true, time.Now()
	}
}
