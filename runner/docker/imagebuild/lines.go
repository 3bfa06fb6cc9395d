package imagebuild

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a line that is handed on, in bytes; a longer one comes in parts.
const maxLine = 16 << 10

// A lineWriter makes lines of what a builder prints in pieces. Of a line that
// was drawn over with carriage returns the last state counts.
type lineWriter struct {
	print func(line string)
	open  strings.Builder
}

func (w *lineWriter) write(text string) {
	for text != "" {
		line, rest, ended := strings.Cut(text, "\n")
		for w.open.Len()+len(line) > maxLine {
			n := maxLine - w.open.Len()
			for n > 0 && !utf8.RuneStart(line[n]) {
				n--
			}
			w.open.WriteString(line[:n])
			line = line[n:]
			w.flush()
		}
		w.open.WriteString(line)
		if ended {
			w.flush()
		}
		text = rest
	}
}

// end hands on a line that has no newline.
func (w *lineWriter) end() {
	if w.open.Len() > 0 {
		w.flush()
	}
}

func (w *lineWriter) flush() {
	line := strings.TrimRight(w.open.String(), "\r")
	w.open.Reset()
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	w.print(plain(line))
}

// plain returns text without what a terminal would take for an order: what a
// build prints comes from elsewhere.
func plain(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if n := escape(text[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == '\t' || !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) {
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// escape returns the length of the control sequence (ECMA-48, 5.4) that text
// begins with, or 0.
func escape(text string) int {
	if !strings.HasPrefix(text, "\x1b[") {
		return 0
	}
	for i := 2; i < len(text); i++ {
		if c := text[i]; c >= 0x40 && c <= 0x7e {
			return i + 1
		}
	}
	return len(text)
}
