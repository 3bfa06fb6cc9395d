package kittapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// unmarshal decodes an answer in Python's JSON, in which NaN, Infinity and -Infinity
// are literals. It reads them as null.
func unmarshal(body []byte, v any) error {
	if !json.Valid(body) {
		body = strict(body)
	}
	return json.Unmarshal(body, v)
}

// text is a string from the server. A number or boolean in its place becomes a string
// as it was written, and null an empty string.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, (*string)(t))
	case '{', '[':
		return errors.New("an object or list in place of a text")
	case 'n':
		*t = ""
	default:
		*t = text(b)
	}
	return nil
}

// nonFinite are the literals of Python's json module that JSON doesn't have.
var nonFinite = [][]byte{[]byte("NaN"), []byte("Infinity"), []byte("-Infinity")}

// strict returns src, which is Python's JSON, with null in place of the literals NaN,
// Infinity and -Infinity. It does not detect other errors.
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

// alone reports whether the literal from i to j is not part of a longer token.
func alone(src []byte, i, j int) bool {
	part := func(k int) bool {
		return k >= 0 && k < len(src) && !bytes.ContainsRune([]byte(" \t\r\n,:[]{}"), rune(src[k]))
	}
	return !part(i-1) && !part(j)
}

// errShape returns the error of an answer without a required field.
func errShape(want string) error { return fmt.Errorf("it has no %s", want) }
