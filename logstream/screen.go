package logstream

import (
	"slices"
	"unicode/utf8"
)

const (
	// maxRows is how far up the cursor can be moved.
	maxRows = 64
	// maxCells bounds the memory of a screen, in columns of all its rows.
	maxCells = 64 << 10
)

// A screen is the rows that a program redraws, as a terminal would show them. Rows
// are in it from when the cursor was moved up to them until they can no longer be
// reached.
type screen struct {
	rows   []*row // top to bottom; at least one
	at     int    // the row of the cursor
	column int
	style  string // the sequences in force, such as colours
	latest *row   // the row that was drawn in last
	fresh  bool   // whether a line end or a carriage return came: text begins a new state of the row

	height int // how many rows the program redraws
	below  int // rows that were begun below the others since the cursor was moved up

	saved       *row // where the cursor was saved; nil for nowhere
	savedColumn int
}

// newScreen returns a screen with one row, the cursor at its end.
func newScreen(text, wiped []byte, begin Position) *screen {
	r := &row{begin: begin}
	s := &screen{rows: []*row{r}, latest: r, height: 1}
	r.wiped, _ = cellsOf(wiped)
	r.cells, s.style = cellsOf(text)
	s.column = len(r.cells)
	return s
}

func (s *screen) row() *row    { return s.rows[s.at] }
func (s *screen) atLast() bool { return s.at == len(s.rows)-1 }

// full reports whether the screen takes more memory than it may.
func (s *screen) full() bool {
	cells := 0
	for _, r := range s.rows {
		cells += len(r.cells) + len(r.wiped)
	}
	return cells > maxCells
}

// print draws text without control characters but tabs and the like, and returns
// how much of it was taken: all but an incomplete character at its end.
func (s *screen) print(p []byte) int {
	r := s.row()
	s.latest = r
	if s.fresh {
		r.wipe()
		s.fresh = false
	}
	taken := 0
	for taken < len(p) && utf8.FullRune(p[taken:]) {
		_, n := utf8.DecodeRune(p[taken:])
		s.column = r.draw(s.column, p[taken:taken+n], s.style)
		taken += n
	}
	return taken
}

// run executes a command. Rows that the cursor is moved up to come from above.
func (s *screen) run(c command, above *history) {
	s.fresh = s.fresh && (c.op == 0 || c.op == 'D') // it is at the left edge
	switch c.op {
	case 'A':
		s.up(c.count(), above)
	case 'F':
		s.up(c.count(), above)
		s.column = 0
	case 'B':
		s.down(c.count())
	case 'E':
		s.down(c.count())
		s.column = 0
	case 'C':
		s.move(s.column + c.count())
	case 'D':
		s.move(s.column - c.count())
	case 'G', '`':
		s.move(c.count() - 1)
	case 'K':
		s.erase(c.n)
	case 'J':
		s.row().erase(s.column)
		for _, r := range s.rows[s.at+1:] {
			r.wipe()
		}
	case opSave:
		s.saved, s.savedColumn = s.row(), s.column
	case opRestore:
		s.restore()
	}
}

func (s *screen) erase(what int) {
	switch what {
	case -1, 0:
		s.row().erase(s.column)
	case 1:
		s.row().eraseBefore(s.column)
	case 2:
		s.row().wipe()
	}
}

// move moves the cursor to a column, not beyond the edges of the screen.
func (s *screen) move(column int) {
	s.column = max(0, min(column, max(maxColumn, len(s.row().cells))))
}

func (s *screen) up(n int, above *history) {
	s.at -= n
	for s.at < 0 && len(s.rows) < maxRows && above.count > 0 {
		s.rows = append([]*row{above.pop()}, s.rows...)
		s.at++
	}
	s.at = max(s.at, 0)
	s.height = max(s.height, len(s.rows)-s.at)
	s.below = 0
}

func (s *screen) down(n int) { s.at = min(s.at+n, len(s.rows)-1) }

func (s *screen) restore() {
	if s.saved == nil {
		return
	}
	at := 0 // of a row that is gone, the top is nearest
	for i, r := range s.rows {
		if r == s.saved {
			at = i
		}
	}
	if at < s.at {
		s.height, s.below = max(s.height, len(s.rows)-at), 0
	}
	s.at = at
	s.move(s.savedColumn)
}

// newline moves the cursor to the next row, which begins at pos if there is none
// yet.
func (s *screen) newline(pos Position) {
	s.at++
	s.column, s.fresh = 0, true
	if s.at == len(s.rows) {
		s.rows = append(s.rows, &row{begin: pos})
		s.below++
	}
}

// gone returns how many rows at the top can't be reached any more by a program that
// goes on as it did.
func (s *screen) gone() int {
	if s.below >= s.height {
		return len(s.rows) - 1
	}
	return max(0, len(s.rows)-s.height)
}

// drop takes n rows off the top, at most those above the cursor.
func (s *screen) drop(n int) []*row {
	n = min(n, s.at)
	rows := s.rows[:n:n]
	s.rows = append([]*row(nil), s.rows[n:]...)
	s.at -= n
	if !slices.Contains(s.rows, s.latest) {
		s.latest = s.row()
	}
	return rows
}

// history is the latest lines of a log, which a program may move the cursor up to.
type history struct {
	lines [maxRows]pastLine
	end   int // where the next line goes
	count int
}

// pastLine is a line of the log.
type pastLine struct {
	text  []byte
	wiped bool // whether a terminal shows an empty row, since the text was wiped
}

// push adds a line.
func (h *history) push(text []byte, wiped bool) {
	if len(text) > maxEscape {
		text = nil // no terminal is as wide
	}
	l := &h.lines[h.end]
	l.text, l.wiped = append(l.text[:0], text...), wiped
	h.end = (h.end + 1) % maxRows
	h.count = min(h.count+1, maxRows)
}

// pop removes the latest line, of which there is one, and returns it as a row.
func (h *history) pop() *row {
	h.rewind(1)
	l := h.lines[h.end]
	r := &row{known: true}
	r.cells, _ = cellsOf(l.text)
	r.logged = render(r.cells)
	if l.wiped {
		r.cells, r.wiped = nil, r.cells
	}
	return r
}

// rewind removes the latest n lines.
func (h *history) rewind(n int) {
	n = min(n, h.count)
	h.count -= n
	h.end = (h.end + maxRows - n) % maxRows
}
