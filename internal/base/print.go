package base

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns text as one line of valid UTF-8. Control characters, which
// include escape sequences for terminals, and bytes that are not UTF-8 are
// escaped as in a Go string.
func Escape(text string) string {
	unprintable := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
	if utf8.ValidString(text) && !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case unprintable(r):
			quoted := fmt.Sprintf("%+q", r)
			out.WriteString(quoted[1 : len(quoted)-1])
		default:
			out.WriteString(text[i : i+n])
		}
		i += n
	}
	return out.String()
}

// Size returns a number of bytes with a binary unit, such as "1.5 GiB".
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	unit, value := 0, float64(n)/1024
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", value, units[unit]), ".0 ", " ", 1)
}

// Names returns names quoted and separated by commas.
func Names(names ...string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ")
}

// Percent returns a percentage to two figures and never with an exponent, such as
// "2.8%", "0.012%" or "160%".
func Percent(value float64) string {
	if math.Abs(value) >= 99.5 {
		return strconv.FormatFloat(value, 'f', 0, 64) + "%"
	}
	return strconv.FormatFloat(value, 'g', 2, 64) + "%"
}
