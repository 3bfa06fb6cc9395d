package logstream

import "strings"

// StripANSI returns text without terminal codes: CSI sequences such as colours,
// OSC sequences such as titles, and the other escapes of ECMA-48. What is not a
// whole sequence goes as far as it is one.
func StripANSI(text string) string {
	const csi = "\u009b" // in one character
	if strings.IndexByte(text, esc) < 0 && !strings.Contains(text, csi) {
		return text
	}
	p := []byte(text)
	kept := p[:0]
	for i := 0; i < len(p); {
		switch {
		case p[i] == esc:
			n, whole := escapeLen(p[i:])
			if !whole && n > 1 && isControlString(p[i+1]) {
				n = 2 // it swallows no text
			}
			i += n
		case strings.HasPrefix(text[i:], csi):
			i = skip(p, i+len(csi), 0x20, 0x3f)
			i = skip(p[:min(i+1, len(p))], i, 0x40, 0x7e)
		default:
			kept = append(kept, p[i])
			i++
		}
	}
	return string(kept)
}
