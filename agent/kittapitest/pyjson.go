package kittapitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The server's JSON is Python's: NaN and infinities are numbers, a lone
// surrogate is a character, objects keep their order, and what is written is
// ASCII. A value here is nil, bool, string (a lone surrogate in its three-byte
// form, which is no valid UTF-8), num, []any or *object.

// num is a number as it was written, NaN, Infinity and -Infinity included.
type num string

// object is an object whose keys keep their order.
type object struct {
	keys   []string
	values map[string]any
}

func newObject(pairs ...any) *object {
	o := &object{values: make(map[string]any, len(pairs)/2)}
	for i := 0; i < len(pairs); i += 2 {
		o.set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func (o *object) set(key string, value any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

func (o *object) get(key string) any { return o.values[key] }

func (o *object) has(key string) bool {
	_, ok := o.values[key]
	return ok
}

// or returns the value of key, or fallback where the key is absent.
func (o *object) or(key string, fallback any) any {
	if v, ok := o.values[key]; ok {
		return v
	}
	return fallback
}

func (o *object) clone() *object {
	return &object{keys: slices.Clone(o.keys), values: maps.Clone(o.values)}
}

func integer[T int | int64](n T) num { return num(strconv.FormatInt(int64(n), 10)) }

// maxNesting is about where Python's parser gives up.
const maxNesting = 900

var errJSON = errors.New("not JSON")

// parse reads src as Python's json.loads does.
func parse(src []byte) (any, error) {
	src = bytes.TrimPrefix(src, []byte("\xEF\xBB\xBF"))
	if !utf8.Valid(src) {
		return nil, errJSON
	}
	p := &parser{src: src}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.src) {
		return nil, errJSON
	}
	return v, nil
}

type parser struct {
	src []byte
	at  int
}

func (p *parser) space() {
	for p.at < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.at]) >= 0 {
		p.at++
	}
}

// next skips white space and takes c if it follows.
func (p *parser) next(c byte) bool {
	p.space()
	if p.at < len(p.src) && p.src[p.at] == c {
		p.at++
		return true
	}
	return false
}

var words = []struct {
	text  string
	value any
}{
	{"null", nil}, {"true", true}, {"false", false},
	{"NaN", num("NaN")}, {"Infinity", num("Infinity")}, {"-Infinity", num("-Infinity")},
}

func (p *parser) value(depth int) (any, error) {
	if depth > maxNesting {
		return nil, errJSON
	}
	switch {
	case p.next('"'):
		return p.text()
	case p.next('{'):
		return p.object(depth)
	case p.next('['):
		return p.list(depth)
	}
	for _, w := range words {
		if bytes.HasPrefix(p.src[p.at:], []byte(w.text)) {
			p.at += len(w.text)
			return w.value, nil
		}
	}
	return p.number()
}

func (p *parser) object(depth int) (any, error) {
	o := newObject()
	if p.next('}') {
		return o, nil
	}
	for {
		if !p.next('"') {
			return nil, errJSON
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if !p.next(':') {
			return nil, errJSON
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.set(key, v)
		if p.next('}') {
			return o, nil
		}
		if !p.next(',') {
			return nil, errJSON
		}
	}
}

func (p *parser) list(depth int) (any, error) {
	list := []any{}
	if p.next(']') {
		return list, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if p.next(']') {
			return list, nil
		}
		if !p.next(',') {
			return nil, errJSON
		}
	}
}

func (p *parser) number() (any, error) {
	start := p.at
	for p.at < len(p.src) && strings.IndexByte("0123456789+-.eE", p.src[p.at]) >= 0 {
		p.at++
	}
	text := p.src[start:p.at]
	if len(text) == 0 || !json.Valid(text) {
		return nil, errJSON
	}
	return num(text), nil
}

// text reads the rest of a text whose first quote is taken.
func (p *parser) text() (string, error) {
	start := p.at
	for ; p.at < len(p.src); p.at++ {
		switch c := p.src[p.at]; {
		case c == '"':
			p.at++
			return string(p.src[start : p.at-1]), nil
		case c == '\\':
			return p.escaped(append([]byte{}, p.src[start:p.at]...))
		case c < ' ':
			return "", errJSON
		}
	}
	return "", errJSON
}

// escaped reads the rest of a text that begins with b and goes on with an
// escape.
func (p *parser) escaped(b []byte) (string, error) {
	for p.at < len(p.src) {
		c := p.src[p.at]
		p.at++
		switch {
		case c == '"':
			return string(b), nil
		case c < ' ':
			return "", errJSON
		case c != '\\':
			b = append(b, c)
			continue
		}
		if p.at == len(p.src) {
			break
		}
		c = p.src[p.at]
		p.at++
		if c == 'u' {
			r, ok := p.hex()
			if !ok {
				return "", errJSON
			}
			b = p.unit(b, r)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return "", errJSON
		}
		b = append(b, "\"\\/\b\f\n\r\t"[i])
	}
	return "", errJSON
}

func (p *parser) hex() (rune, bool) {
	if p.at+4 > len(p.src) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.src[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 4
	return rune(n), true
}

// unit appends the character that begins with the UTF-16 unit r.
func (p *parser) unit(b []byte, r rune) []byte {
	if r < 0xD800 || r > 0xDFFF {
		return utf8.AppendRune(b, r)
	}
	if r < 0xDC00 && bytes.HasPrefix(p.src[p.at:], []byte(`\u`)) {
		back := p.at
		p.at += 2
		if low, ok := p.hex(); ok && low >= 0xDC00 && low <= 0xDFFF {
			return utf8.AppendRune(b, 0x10000+(r-0xD800)<<10+(low-0xDC00))
		}
		p.at = back
	}
	return append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0xBF, 0x80|byte(r)&0xBF)
}

// style is how JSON is written.
type style struct {
	comma, colon string
	sorted       bool
}

var (
	answerStyle = style{",", ":", true}    // as Flask's jsonify
	dumpStyle   = style{", ", ": ", false} // as json.dumps
)

// write appends v as JSON.
func (s style) write(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return quote(b, v)
	case num:
		return append(b, v...)
	case []any:
		b = append(b, '[')
		for i, element := range v {
			if i > 0 {
				b = append(b, s.comma...)
			}
			b = s.write(b, element)
		}
		return append(b, ']')
	case *object:
		keys := v.keys
		if s.sorted {
			keys = slices.Sorted(slices.Values(keys))
		}
		b = append(b, '{')
		for i, key := range keys {
			if i > 0 {
				b = append(b, s.comma...)
			}
			b = append(quote(b, key), s.colon...)
			b = s.write(b, v.values[key])
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("no JSON value: %T", v)) // a bug here, not in what was sent
}

// quote appends s as a JSON text in ASCII.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch at := strings.IndexByte("\"\\\b\f\n\r\t", c); {
			case at >= 0:
				b = append(b, '\\', `"\bfnrt`[at])
			case c < ' ':
				b = fmt.Appendf(b, `\u%04x`, c)
			default:
				b = append(b, c)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 && i+3 <= len(s) { // a lone surrogate
			r, n = rune(c&0x0F)<<12|rune(s[i+1]&0x3F)<<6|rune(s[i+2]&0x3F), 3
		}
		i += n
		if r >= 0x10000 {
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		} else {
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
