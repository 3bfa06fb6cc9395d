package kittapitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The server's JSON is Python's: NaN and infinities are numbers, and a string may
// have a lone surrogate. What it writes is ASCII. A value here is nil, bool,
// string, num, []any or object. A lone surrogate becomes loneSurrogate, since Go's
// strings have none.

// num is a number as it was written, or NaN, Infinity or -Infinity.
type num string

// object is a JSON object.
type object map[string]any

// loneSurrogate is a code point that is not a character, so no text has it.
const loneSurrogate = "\uFDD0"

// nonFinite marks a string that stands for NaN or an infinity. It is not a
// character either.
const nonFinite = "\uFDD1"

func newObject(pairs ...any) object {
	o := make(object, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i].(string)] = pairs[i+1]
	}
	return o
}

func (o object) has(key string) bool {
	_, ok := o[key]
	return ok
}

// or returns the value of key, or fallback if the key is absent.
func (o object) or(key string, fallback any) any {
	if v, ok := o[key]; ok {
		return v
	}
	return fallback
}

func integer[T int | int64](n T) num { return num(fmt.Sprint(n)) }

const jsonString = `"(?:[^"\\]|\\.)*"`

var (
	surrogates = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.`)
	specials   = regexp.MustCompile(jsonString + `|NaN|-?Infinity`)
	separators = regexp.MustCompile(jsonString + `|[,:]`)
	marked     = regexp.MustCompile(`"` + nonFinite + `(NaN|-?Infinity)"`)
)

var errJSON = errors.New("not JSON")

// parse parses src like Python's json.loads.
func parse(src []byte) (any, error) {
	if !utf8.Valid(src) {
		return nil, errJSON
	}
	if bytes.Contains(src, []byte(`\ud`)) || bytes.Contains(src, []byte(`\uD`)) {
		src = surrogates.ReplaceAllFunc(src, func(escape []byte) []byte {
			if len(escape) == len(`\ud800`) { // not a pair
				return []byte(loneSurrogate)
			}
			return escape
		})
	}
	v, err := decode(src)
	if err != nil && (bytes.Contains(src, []byte("NaN")) || bytes.Contains(src, []byte("Infinity"))) {
		v, err = decode(specials.ReplaceAllFunc(src, func(word []byte) []byte {
			if word[0] == '"' {
				return word
			}
			return []byte(`"` + nonFinite + string(word) + `"`)
		}))
	}
	return v, err
}

func decode(src []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.Decode(new(any)) != io.EOF {
		return nil, errJSON
	}
	return fromJSON(v), nil
}

// fromJSON turns what encoding/json decoded into the types of this package.
func fromJSON(v any) any {
	switch v := v.(type) {
	case json.Number:
		return num(v)
	case string:
		if word, special := strings.CutPrefix(v, nonFinite); special && specials.FindString(word) == word {
			return num(word)
		}
	case []any:
		for i := range v {
			v[i] = fromJSON(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = fromJSON(v[key])
		}
		return object(v)
	}
	return v
}

// MarshalJSON returns the number, or a marked string if JSON has no such number.
func (n num) MarshalJSON() ([]byte, error) {
	if strings.HasSuffix(string(n), "N") || strings.HasSuffix(string(n), "y") {
		return []byte(`"` + nonFinite + string(n) + `"`), nil
	}
	return []byte(n), nil
}

// encode returns v as JSON in the form of Flask's jsonify: ASCII, with sorted keys.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // v has a value that is not one of this package's
	}
	text := bytes.TrimSpace(b.Bytes())
	if bytes.Contains(text, []byte(nonFinite)) {
		text = marked.ReplaceAll(text, []byte("$1"))
	}
	var ascii []byte
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			ascii = append(ascii, byte(r))
		case r < 0x10000:
			ascii = fmt.Appendf(ascii, `\u%04x`, r)
		default:
			r -= 0x10000
			ascii = fmt.Appendf(ascii, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		}
	}
	return ascii
}

// dump returns src, which is JSON, with the white space of Python's json.dumps.
func dump(src []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, src) != nil {
		return string(src)
	}
	return string(separators.ReplaceAllFunc(b.Bytes(), func(token []byte) []byte {
		if token[0] == '"' {
			return token
		}
		return append(token[:1:1], ' ')
	}))
}
