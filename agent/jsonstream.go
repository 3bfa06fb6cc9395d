package agent

import "encoding/json"

// jsonStream reads JSON piece by piece: it holds one value that is no object and
// no list in memory at a time.
type jsonStream struct{ dec *json.Decoder }

// object reads an object and calls the function for each key that has one, which
// reads the value. It skips all other values, and a value that is no object.
func (s jsonStream) object(fields map[string]func() error) error {
	start, err := s.dec.Token()
	if err != nil {
		return err
	}
	if start != json.Delim('{') {
		return s.skipRest(start)
	}
	for s.dec.More() {
		key, err := s.dec.Token()
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
	_, err = s.dec.Token()
	return err
}

// text returns a function that reads a text into to. It skips a value of another
// kind.
func (s jsonStream) text(to *string) func() error {
	return func() error {
		value, err := s.dec.Token()
		if err != nil {
			return err
		}
		if text, ok := value.(string); ok {
			*to = text
		}
		return s.skipRest(value)
	}
}

// boolean is text for true and false.
func (s jsonStream) boolean(to *bool) func() error {
	return func() error {
		value, err := s.dec.Token()
		if err != nil {
			return err
		}
		if is, ok := value.(bool); ok {
			*to = is
		}
		return s.skipRest(value)
	}
}

// skip skips the next value.
func (s jsonStream) skip() error {
	start, err := s.dec.Token()
	if err != nil {
		return err
	}
	return s.skipRest(start)
}

// skipRest skips what follows start, the first token of a value.
func (s jsonStream) skipRest(start json.Token) error {
	for depth := levels(start); depth > 0; {
		token, err := s.dec.Token()
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
