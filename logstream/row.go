package logstream

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"
)

// A cell is one column of a row.
type cell struct {
	text  string // a character with the marks on it; empty right of one of two columns
	style string // the sequences in force, such as colours
}

// A row is a line that is being redrawn.
type row struct {
	cells   []cell
	wiped   []cell   // what the row showed before it was wiped, if it showed anything
	begin   Position // where the row begins in the output
	touched bool     // whether something was drawn in it
	known   bool     // whether the log may have a state of it as a line
	logged  []byte   // that state
}

const (
	// maxColumn is as far right as the cursor can be moved; text can go further.
	maxColumn = 511
	// maxCluster bounds the bytes of a character with the marks on it.
	maxCluster = 64
	// maxStyle bounds the sequences that are in force, in bytes.
	maxStyle = 128
)

// wipe erases the row and keeps what it showed.
func (r *row) wipe() {
	if !blankCells(r.cells) {
		r.cells, r.wiped = r.wiped, r.cells
	}
	r.cells = r.cells[:0]
	r.touched = true
}

// erase erases the row from column on.
func (r *row) erase(column int) {
	if blankCells(r.cells[:min(column, len(r.cells))]) {
		r.wipe()
	} else if column < len(r.cells) {
		r.split(column)
		r.cells, r.touched = r.cells[:column], true
	}
}

// eraseBefore erases the row up to and with column.
func (r *row) eraseBefore(column int) {
	if column+1 >= len(r.cells) || blankCells(r.cells[column+1:]) {
		r.wipe()
		return
	}
	r.split(column + 1)
	for i := range column + 1 {
		r.cells[i] = cell{text: " "}
	}
	r.touched = true
}

// split sees to it that no character lies across the left edge of column.
func (r *row) split(column int) {
	if column > 0 && column < len(r.cells) && r.cells[column].text == "" {
		r.cells[column-1].text, r.cells[column].text = " ", " "
	}
}

// put writes a character at column and returns the column after it. A space in the
// first column may begin to blank the row: what it showed is kept.
func (r *row) put(column int, char []byte, style string) int {
	c, _ := utf8.DecodeRune(char)
	width := columns(c)
	if width == 0 {
		if i := min(column, len(r.cells)) - 1; i >= 0 && len(r.cells[i].text) < maxCluster {
			r.cells[i].text += string(char)
		}
		return column
	}
	if column == 0 && c == ' ' && !blankCells(r.cells) {
		r.wiped = append(r.wiped[:0], r.cells...)
	}
	for len(r.cells) < column {
		r.cells = append(r.cells, cell{text: " "})
	}
	r.split(column)
	r.split(column + width)
	for len(r.cells) < column+width {
		r.cells = append(r.cells, cell{})
	}
	r.cells[column] = cell{string(char), style}
	if width == 2 {
		r.cells[column+1] = cell{style: style}
	}
	r.touched = true
	return column + width
}

// text returns what the row shows; if it was wiped, what it showed before that.
func (r *row) text() []byte {
	if r.isWiped() {
		return render(r.wiped)
	}
	return render(r.cells)
}

// isWiped reports whether the row shows nothing, but did before.
func (r *row) isWiped() bool { return blankCells(r.cells) && len(r.wiped) > 0 }

func blankCells(cells []cell) bool {
	return !slices.ContainsFunc(cells, func(c cell) bool {
		first, _ := utf8.DecodeRuneInString(c.text)
		return c.text != "" && !unicode.IsSpace(first)
	})
}

// render returns cells as text, without the spaces at their end. Styles are
// switched on where they begin and off where they end.
func render(cells []cell) []byte {
	for len(cells) > 0 && cells[len(cells)-1].text == " " {
		cells = cells[:len(cells)-1]
	}
	var text []byte
	style := ""
	change := func(to string) {
		if to == style {
			return
		}
		if style != "" {
			text = append(text, "\x1b[0m"...)
		}
		text = append(text, to...)
		style = to
	}
	for _, c := range cells {
		change(c.style)
		text = append(text, c.text...)
	}
	change("")
	return text
}

// cellsOf returns the cells of a text, and the style that is in force at its end.
func cellsOf(text []byte) (cells []cell, style string) {
	var r row
	column := 0
	for len(text) > 0 {
		if text[0] == esc {
			n, _ := escapeLen(text)
			style = styled(style, text[:n])
			text = text[n:]
			continue
		}
		_, n := utf8.DecodeRune(text)
		column = r.draw(column, text[:n], style)
		text = text[n:]
	}
	return r.cells, style
}

// draw puts a character as put does, and moves the cursor for a tab. Other
// control characters are left out.
func (r *row) draw(column int, char []byte, style string) int {
	switch {
	case char[0] == '\t':
		return min(column/8*8+8, max(maxColumn, len(r.cells)))
	case char[0] < 0x20 || char[0] == 0x7f:
		return column
	case !utf8.Valid(char):
		char = []byte("\uFFFD")
	}
	return r.put(column, char, style)
}

// styled returns the style that is in force after a sequence.
func styled(style string, seq []byte) string {
	switch {
	case !isStyle(seq):
		return style
	case isReset(seq):
		return ""
	case bytes.HasPrefix(seq, []byte("\x1b[0;")) || len(style)+len(seq) > maxStyle:
		return string(seq)
	}
	return style + string(seq)
}
