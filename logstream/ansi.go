package logstream

import "strings"

// StripANSI returns text without terminal codes: CSI sequences such as colours,
// OSC sequences such as titles, and the other escapes of ECMA-48. What is not a
// whole sequence goes as far as it is one.
func StripANSI(text string) string {
	if strings.IndexByte(text, 0x1b) < 0 && !strings.Contains(text, "\u009b") {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); {
		switch {
		case strings.HasPrefix(text[i:], "\u009b"): // CSI in one character
			i = skipCSI(text, i+len("\u009b"))
		case text[i] != 0x1b:
			b.WriteByte(text[i])
			i++
		case i+1 == len(text):
			i++
		case text[i+1] == '[':
			i = skipCSI(text, i+2)
		case strings.IndexByte("]PX^_", text[i+1]) >= 0: // OSC, DCS, SOS, PM, APC
			i = skipString(text, i+2)
		default:
			i = skipEscape(text, i+1)
		}
	}
	return b.String()
}

// skipCSI returns where a control sequence ends whose parameters begin at i:
// parameter bytes 0x30–0x3F, intermediate bytes 0x20–0x2F, a final byte
// 0x40–0x7E.
func skipCSI(text string, i int) int {
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x3f {
		i++
	}
	if i < len(text) && text[i] >= 0x40 && text[i] <= 0x7e {
		i++
	}
	return i
}

// skipString returns where a control string ends that begins at i: with BEL or
// ST. One that doesn't end is taken for none, so that it swallows no text.
func skipString(text string, i int) int {
	for j := i; j < len(text); j++ {
		switch {
		case text[j] == 0x07:
			return j + 1
		case text[j] == 0x1b && j+1 < len(text) && text[j+1] == '\\':
			return j + 2
		case text[j] == 0x1b:
			return i
		}
	}
	return i
}

// skipEscape returns where another escape ends: intermediate bytes, then one
// more.
func skipEscape(text string, i int) int {
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x2f {
		i++
	}
	if i < len(text) && text[i] >= 0x30 && text[i] <= 0x7e {
		i++
	}
	return i
}
