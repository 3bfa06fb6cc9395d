package logstream

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// maxUnsettled is how much of the output is read again, at most, to get a screen
// back after a crash, in bytes. A program may redraw it for days.
const maxUnsettled = 16 << 20

// redraw is what an assembler knows of a program that redraws more than the open
// line, or within it.
type redraw struct {
	screen  *screen // takes the place of the open line; nil while there is none
	history history
	part    []byte    // an escape sequence, or a character on a screen, whose end is still to come
	bytes   int64     // of the output since settled
	idleAt  time.Time // when the rows that can hardly be reached are taken for lines

	// Lines that left a screen while others stayed come again with it: since counts
	// them, skip those that are still to come. Until all are behind settled, records
	// bear the position that the one before them bore.
	since int
	skip  int
	last  Position // that the latest record bore
}

// bear returns the position for a record that ends nothing: where the output is to
// be fed from.
func (a *assembler) bear() Position {
	if a.redraw.since == 0 {
		a.redraw.last = a.settled
	}
	return a.redraw.last
}

// again begins with the output that is fed from settled on, another time.
func (r *redraw) again() {
	r.screen, r.part, r.bytes = nil, nil, 0
	r.skip = r.since
	r.history.rewind(r.since)
}

// control takes an escape sequence or a backspace, with which p begins, and returns
// the rest. What changes nothing that is shown is left out of the line.
func (a *assembler) control(p []byte, out emit) []byte {
	atStart := a.carriage || len(a.open) == 0
	n, c := 1, command{op: 'D', n: 1}
	if p[0] == esc {
		var whole bool
		if n, whole = escapeLen(p); !whole {
			a.redraw.part = bytes.Clone(p)
			return a.advance(p, len(p))
		}
		c = commandOf(p[:n])
	}
	switch {
	case c.op == 0:
		a.takeText(p[:n], out)
		return p[n:]
	case c.op == 'K' && c.n != 1 && atStart, c.op == 'J' && atStart:
		if a.carriage {
			a.carriage = false
			a.overwrite()
		}
	case c.op == 'K' && c.n < 1, c.op == 'J', c.op == 'D' && atStart, c.op == opShowCursor:
	default:
		a.enterScreen()
		return p
	}
	if len(a.open) > 0 {
		a.mark()
	}
	return a.advance(p, n)
}

// enterScreen puts a screen in the place of the open line.
func (a *assembler) enterScreen() {
	var wiped []byte
	if a.bar {
		wiped = a.state
	}
	s := newScreen(a.open, wiped, a.begin)
	if a.carriage {
		s.column, s.fresh = 0, true
	}
	a.redraw.screen, a.redraw.bytes = s, 0
	a.open, a.marks, a.carriage, a.bar = a.open[:0], a.marks[:0], false, false
}

// draw takes what p begins with, on the screen, and returns the rest.
func (a *assembler) draw(p []byte, out emit) []byte {
	s := a.redraw.screen
	a.changed = true
	n, part := 1, 0
	switch p[0] {
	case '\n':
		p = a.advance(p, 1)
		s.newline(a.now)
		a.leaveGone(out)
		return p
	case '\r':
		s.column, s.fresh = 0, true
		if len(s.rows) == 1 {
			a.leaveToBar()
		}
	case backspace:
		s.run(command{op: 'D'}, nil)
	case esc:
		var whole bool
		if n, whole = escapeLen(p); !whole {
			n, part = len(p), len(p)
			break
		}
		s.style = styled(s.style, p[:n])
		s.run(commandOf(p[:n]), &a.redraw.history)
	default:
		n, part = s.printAll(p)
	}
	a.redraw.part = bytes.Clone(p[n-part : n])
	a.redraw.bytes += int64(n)
	p = a.advance(p, n)
	switch {
	case s.full():
		a.leaveAll(Continued, out)
	case a.redraw.bytes > maxUnsettled && len(s.rows) == 1:
		a.settleAt(a.now)
	}
	return p
}

// printAll draws the text that p begins with and returns its length, and how much of
// that is a character without its end.
func (s *screen) printAll(p []byte) (n, part int) {
	n = bytes.IndexAny(p, "\n\r\b\x1b")
	if n < 0 {
		n = len(p)
	}
	taken := s.print(p[:n])
	if n == len(p) && n-taken < utf8.UTFMax {
		return n, n - taken
	}
	for i := taken; i < n; i++ { // the end does not come
		s.print([]byte("\uFFFD"))
	}
	return n, 0
}

// leaveGone emits the rows that can't be reached any more, after a newline, and
// leaves the screen if that is all of them.
func (a *assembler) leaveGone(out emit) {
	s := a.redraw.screen
	switch {
	case !s.atLast():
	case s.below >= s.height:
		a.emitRows(s.drop(s.at), a.now, Output, out)
		a.leave()
	case a.redraw.bytes > maxUnsettled:
		a.emitRows(s.drop(s.at), a.now, Output, out)
		s.row().begin = a.now
	default:
		a.emitRows(s.drop(s.gone()), a.settled, Output, out)
	}
}

// leaveAbove emits the rows above the cursor, under which others were begun a while
// ago.
func (a *assembler) leaveAbove(out emit) {
	s := a.redraw.screen
	rows := s.drop(s.at)
	s.height, s.below = 1, 0
	a.begin = s.row().begin
	a.emitRows(rows, a.begin, Output, out)
}

// leaveAll emits all rows and leaves the screen. Blank ones at the bottom are no
// lines. The last row is emitted as kind says.
func (a *assembler) leaveAll(kind Kind, out emit) {
	rows := a.redraw.screen.rows
	for len(rows) > 0 && blank(rows[len(rows)-1].text()) {
		rows = rows[:len(rows)-1]
	}
	a.emitRows(rows, a.now, kind, out)
	a.leave()
}

// leave leaves the screen, behind all that was emitted.
func (a *assembler) leave() {
	a.redraw.screen = nil
	a.begin = a.now
	a.forget()
}

// leaveToBar leaves a screen of one row at a carriage return: the row is a state of
// a progress bar.
func (a *assembler) leaveToBar() {
	r := a.redraw.screen.rows[0]
	a.open = append(a.open[:0], render(r.cells)...)
	a.state = append(a.state[:0], render(r.wiped)...)
	a.bar = len(a.state) > 0
	a.carriage = true
	a.redraw.screen = nil
}

// settleAt makes pos the position from which the output is fed again.
func (a *assembler) settleAt(pos Position) {
	if pos != a.settled {
		a.settled = pos
		a.redraw.since, a.redraw.skip, a.redraw.bytes = 0, 0, 0
	}
}

// line is a line that is due.
type line struct {
	kind Kind
	text []byte
}

// emitRows emits rows that have left the screen, the last one as kind says. What
// follows in the output is drawn again from settled on.
func (a *assembler) emitRows(rows []*row, settled Position, last Kind, out emit) {
	var lines []line
	for i, r := range rows {
		text, isNew := a.lineOf(r)
		a.redraw.history.push(text, r.isWiped())
		if !isNew {
			continue
		}
		for len(text) > MaxLine {
			cut := MaxLine - incomplete(text[:MaxLine])
			lines = append(lines, line{Continued, text[:cut]})
			text = text[cut:]
		}
		kind := Output
		if i == len(rows)-1 {
			kind = last
		}
		lines = append(lines, line{kind, text})
	}
	for i, l := range lines {
		if i == len(lines)-1 && settled != a.settled {
			a.settleAt(settled)
			a.redraw.last = settled
		} else if a.redraw.skip == 0 {
			a.redraw.since++
		}
		a.say(l.kind, a.redraw.last, l.text, out)
		a.forget()
	}
	a.settleAt(settled)
}

// lineOf returns the text of a row that has left the screen, and whether the log
// does not have it yet.
func (a *assembler) lineOf(r *row) (text []byte, isNew bool) {
	if r.known && !r.touched {
		return r.logged, false
	}
	text = a.clean(r.text())
	return text, !r.known || !bytes.Equal(text, r.logged)
}

// idleDue returns when the rows above the cursor are taken for lines since the
// program goes on below them; the zero time for never.
func (a *assembler) idleDue(now time.Time) time.Time {
	if s := a.redraw.screen; s == nil || s.below == 0 || s.at == 0 {
		return time.Time{}
	}
	if a.redraw.idleAt.IsZero() {
		a.redraw.idleAt = now.Add(showAfter)
	}
	return a.redraw.idleAt
}

// drawn is what pending returns while there is a screen: the row that was drawn in
// last.
func (a *assembler) drawn() []byte {
	s := a.redraw.screen
	text := s.latest.text()
	if s.latest == s.row() && s.column == len(s.latest.cells) {
		text = a.withoutPartial(s.latest)
	}
	if blank(text) {
		return nil
	}
	return a.unlessShown(a.clean(text))
}

// withoutPartial returns the text of a row without what may be the beginning of a
// secret at its end.
func (a *assembler) withoutPartial(r *row) []byte {
	var end []byte
	for _, c := range r.cells[max(0, len(r.cells)-maxEscape):] {
		end = append(end, c.text...)
	}
	hide := a.secrets.partial(end, minHint)
	cells := r.cells
	for hide > 0 && len(cells) > 0 {
		hide -= len(cells[len(cells)-1].text)
		cells = cells[:len(cells)-1]
	}
	if len(cells) < len(r.cells) {
		return render(cells)
	}
	return r.text()
}

// takePart takes an escape sequence or a character whose end does not come.
func (a *assembler) takePart(out emit) {
	part := a.redraw.part
	if len(part) == 0 {
		return
	}
	a.redraw.part = nil
	a.now.Byte -= int64(len(part))
	if a.redraw.screen == nil {
		a.takeText(part, out)
		return
	}
	if part[0] != esc {
		a.redraw.screen.print([]byte("\uFFFD"))
	}
	a.advance(part, len(part))
}
