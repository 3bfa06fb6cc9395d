package base

import (
	"encoding/json"
	"io"
)

// A JSONStream reads JSON piece by piece: of the objects and lists it holds none in
// memory, so that what it reads may be long.
type JSONStream struct{ *json.Decoder }

// NewJSONStream returns a stream that reads from r. Numbers have any size.
func NewJSONStream(r io.Reader) JSONStream {
	dec := json.NewDecoder(r)
	dec.UseNumber()
	return JSONStream{dec}
}

// Object reads an object and calls the function for each key that has one; the
// function reads the value. It skips all other values, and a value that is not an
// object.
func (s JSONStream) Object(fields map[string]func() error) error {
	start, err := s.Token()
	if err != nil {
		return err
	}
	if start != json.Delim('{') {
		return s.skipRest(start)
	}
	for s.More() {
		key, err := s.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		read := fields[name]
		if read == nil {
			read = s.skip
		}
		if err := read(); err != nil {
			return err
		}
	}
	_, err = s.Token()
	return err
}

// Text returns a function that reads a text into to. It skips a value of another
// kind.
func (s JSONStream) Text(to *string) func() error { return readAs(s, to) }

// Bool is Text for true and false.
func (s JSONStream) Bool(to *bool) func() error { return readAs(s, to) }

func readAs[T any](s JSONStream, to *T) func() error {
	return func() error {
		token, err := s.Token()
		if err != nil {
			return err
		}
		if value, ok := token.(T); ok {
			*to = value
		}
		return s.skipRest(token)
	}
}

// skip skips the next value.
func (s JSONStream) skip() error {
	start, err := s.Token()
	if err != nil {
		return err
	}
	return s.skipRest(start)
}

// skipRest skips what follows start, the first token of a value.
func (s JSONStream) skipRest(start json.Token) error {
	for depth := levels(start); depth > 0; {
		token, err := s.Token()
		if err != nil {
			return err
		}
		depth += levels(token)
	}
	return nil
}

// levels returns by how many levels token leads deeper.
func levels(token json.Token) int {
	switch token {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}
