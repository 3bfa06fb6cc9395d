package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// quote returns text in quotes, with what a terminal would take for an order
// made visible.
func quote(text string) string { return strconv.Quote(text) }

// printable returns a short text from elsewhere without what a terminal would
// take for an order.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// logLine returns a line of a log for a terminal: colours stay, other orders to
// the terminal, such as one to set its title, do not.
func logLine(line string) string {
	var out strings.Builder
	for i := 0; i < len(line); {
		if n := colorSequence(line[i:]); n > 0 {
			out.WriteString(line[i : i+n])
			i += n
			continue
		}
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			i++
			continue
		}
		out.WriteByte(line[i])
		i++
	}
	return strings.Map(func(r rune) rune {
		if r >= 0x80 && r <= 0x9f { // orders in one character
			return -1
		}
		return r
	}, out.String())
}

// colorSequence returns the length of the colour sequence (ESC [ numbers m) that
// text begins with, or 0.
func colorSequence(text string) int {
	if !strings.HasPrefix(text, "\x1b[") {
		return 0
	}
	for i := 2; i < len(text); i++ {
		switch c := text[i]; {
		case c == 'm':
			return i + 1
		case c != ';' && c != ':' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

// span returns a duration as a person would say it: two units at most.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
