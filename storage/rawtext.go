package storage

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A rawText is a path in a JSON file of ours. A file's name may be any bytes,
// JSON's texts are UTF-8: what is not is written as base64 in an array.
type rawText string

// MarshalJSON implements [json.Marshaler].
func (t rawText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal([1][]byte{[]byte(t)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *rawText) UnmarshalJSON(data []byte) error {
	var text string
	if len(data) == 0 || data[0] != '[' {
		err := json.Unmarshal(data, &text)
		*t = rawText(text)
		return err
	}
	var raw [1][]byte
	err := json.Unmarshal(data, &raw)
	*t = rawText(raw[0])
	return err
}

// oneLine returns text as one line for a person: control characters, orders to a
// terminal among them, and bytes that are not UTF-8 are written as Go would.
func oneLine(text string) string {
	odd := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
	if utf8.ValidString(text) && !strings.ContainsFunc(text, odd) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case odd(r):
			quoted := fmt.Sprintf("%+q", r)
			out.WriteString(quoted[1 : len(quoted)-1])
		default:
			out.WriteString(text[i : i+n])
		}
		i += n
	}
	return out.String()
}
