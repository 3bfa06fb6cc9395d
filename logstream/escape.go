package logstream

import (
	"bytes"
	"unicode"
)

const (
	esc       = 0x1b
	backspace = '\b'
)

// maxEscape bounds a control string such as a title, in bytes. A longer one is
// text.
const maxEscape = 4 << 10

// escapeLen returns how many bytes at the beginning of p, which starts with an
// escape character, are an escape sequence of ECMA-48. whole is false if the rest of
// the sequence is still to come. What is no sequence goes as far as it is one.
func escapeLen(p []byte) (n int, whole bool) {
	if len(p) == 1 {
		return 1, false
	}
	switch c := p[1]; {
	case c == '[':
		n = skip(p, 2, 0x20, 0x3f)
		if n == len(p) {
			return n, n > maxEscape
		}
		return skip(p[:n+1], n, 0x40, 0x7e), true
	case isControlString(c):
		return controlString(p)
	case c < 0x20 || c == esc:
		return 1, true
	}
	n = skip(p, 1, 0x20, 0x2f)
	if n == len(p) {
		return n, n > maxEscape
	}
	return skip(p[:n+1], n, 0x30, 0x7e), true
}

// isControlString reports whether a control string begins with an escape character
// and c: OSC, DCS, SOS, PM, APC.
func isControlString(c byte) bool { return bytes.IndexByte([]byte("]PX^_"), c) >= 0 }

// skip returns where the bytes from least to most that stand at p[i:] end.
func skip(p []byte, i int, least, most byte) int {
	for i < len(p) && p[i] >= least && p[i] <= most {
		i++
	}
	return i
}

// controlString is escapeLen of a control string, which ends with BEL or ST. One
// that a line end or another sequence interrupts is none.
func controlString(p []byte) (n int, whole bool) {
	for i := 2; i < len(p); i++ {
		switch {
		case i > maxEscape || p[i] == '\n' || p[i] == '\r':
			return 2, true
		case p[i] == 0x07:
			return i + 1, true
		case p[i] == esc && i+1 == len(p):
			return len(p), false
		case p[i] == esc && p[i+1] == '\\':
			return i + 2, true
		case p[i] == esc:
			return 2, true
		}
	}
	return len(p), false
}

// A command is what a sequence asks of a terminal, with its first parameter.
type command struct {
	op rune // the final byte; 0 if the sequence does not redraw
	n  int  // -1 if there is none
}

// Commands of sequences other than CSI.
const (
	opSave       = 's' // the cursor, as in ESC 7
	opRestore    = 'u' // as in ESC 8
	opShowCursor = 'h' // or hide it
)

// commandOf returns the command of a whole sequence. Its op is 0 if the sequence
// stays in the text, as colours do.
func commandOf(seq []byte) command {
	switch {
	case len(seq) == 2 && seq[1] == '7':
		return command{op: opSave}
	case len(seq) == 2 && seq[1] == '8':
		return command{op: opRestore}
	case len(seq) < 3 || seq[1] != '[':
		return command{}
	}
	op, params := seq[len(seq)-1], seq[2:len(seq)-1]
	if string(params) == "?25" && (op == 'h' || op == 'l') {
		return command{op: opShowCursor}
	}
	if bytes.IndexByte([]byte("ABCDEFGJK`su"), op) < 0 {
		return command{}
	}
	c := command{op: rune(op), n: -1}
	for _, d := range params {
		if d < '0' || d > '9' {
			return command{} // private, or several parameters
		}
		c.n = min(max(c.n, 0)*10+int(d-'0'), 1<<16)
	}
	if op == 'J' && c.n > 0 { // parts of the screen above, which the log has
		return command{}
	}
	return c
}

// count is how many rows or columns a command moves the cursor.
func (c command) count() int { return max(c.n, 1) }

// isStyle reports whether a whole sequence sets colours or the like.
func isStyle(seq []byte) bool {
	return len(seq) > 2 && seq[1] == '[' && seq[len(seq)-1] == 'm'
}

// isReset reports whether a style ends all others.
func isReset(seq []byte) bool {
	return string(seq) == "\x1b[m" || string(seq) == "\x1b[0m"
}

// blank reports whether p shows nothing: it has spaces and escape sequences only.
func blank(p []byte) bool {
	for {
		p = bytes.TrimLeftFunc(p, unicode.IsSpace)
		if len(p) == 0 || p[0] != esc {
			return len(p) == 0
		}
		n, whole := escapeLen(p)
		if n == 1 || !whole {
			return false
		}
		p = p[n:]
	}
}

// columns returns how many columns of a terminal a character takes: two for those
// of East Asia and for pictures, none for marks that combine with what is before.
func columns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f,
		r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1faff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}
