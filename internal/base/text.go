package base

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns text from elsewhere as one that is safe to print: each
// control or formatting character and each byte that is not UTF-8 becomes
// U+FFFD. A text of more than limit characters ends there, with an ellipsis. A
// text of several lines goes through OneLine first, which makes blanks of newlines.
func Printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(text, string(unicode.ReplacementChar)))
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit]) + "…"
}

// OneLine returns text on one line: every run of blanks, newlines and control
// characters becomes one blank.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}
