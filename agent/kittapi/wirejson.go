package kittapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// unmarshal decodes an answer, whose JSON is Python's: NaN, Infinity and
// -Infinity stand in it bare and are taken as null.
func unmarshal(body []byte, v any) error {
	if !json.Valid(body) {
		body = strict(body)
	}
	return json.Unmarshal(body, v)
}

// text is a text of the server's. A number or boolean in its place is taken as
// it is written, null as the empty text.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, (*string)(t))
	case '{', '[':
		return errors.New("an object or list stands where a text should")
	case 'n':
		*t = ""
	default:
		*t = text(b)
	}
	return nil
}

// nonFinite are the words that Python's json module writes and reads beside
// those of the standard.
var nonFinite = [][]byte{[]byte("NaN"), []byte("Infinity"), []byte("-Infinity")}

// strict returns src, JSON as Python writes it, with null in place of each of
// the bare words NaN, Infinity and -Infinity. Faults of other kinds are left for
// a real parser to find.
func strict(src []byte) []byte {
	var dst []byte
	inText, start := false, 0
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == 'N' || c == 'I' || c == '-':
			for _, word := range nonFinite {
				if bytes.HasPrefix(src[i:], word) && alone(src, i, i+len(word)) {
					dst = append(append(dst, src[start:i]...), "null"...)
					i += len(word) - 1
					start = i + 1
					break
				}
			}
		}
	}
	return append(dst, src[start:]...)
}

// alone reports whether the word from i to j touches no other word or number.
func alone(src []byte, i, j int) bool {
	part := func(k int) bool {
		return k >= 0 && k < len(src) && !bytes.ContainsRune([]byte(" \t\r\n,:[]{}"), rune(src[k]))
	}
	return !part(i-1) && !part(j)
}

// errShape is the error of an answer that is JSON of another shape.
func errShape(want string) error { return fmt.Errorf("it has no %s", want) }
