package storage

import (
	"encoding/json"
	"unicode/utf8"
)

// A rawText is a path in one of the storage's JSON files. A file's name may be any
// bytes, but JSON text is UTF-8. A path that isn't is written as base64 in an
// array.
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
