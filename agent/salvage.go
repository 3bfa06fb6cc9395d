package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxSalvage bounds what is read of a command.json that is too long, in bytes.
// Agents of version 1 made up to 10 GB of a command, almost all of it blanks.
const maxSalvage = 1 << 30

// salvageOrder returns what can be read of the command.json at path. It holds
// one value of the file in memory at a time, so the file may have any length.
// With an error the file is damaged, and the order is what stands before that.
func salvageOrder(path string) (order, error) {
	info, err := os.Stat(path)
	if err != nil {
		return order{}, err
	}
	if !info.Mode().IsRegular() {
		return order{}, fmt.Errorf("%s is no plain file", filepath.Base(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return order{}, err
	}
	defer f.Close()
	s := salvager{dec: json.NewDecoder(io.LimitReader(f, maxSalvage))}
	err = s.object(map[string]func() error{
		"version": func() error { return s.skip() },
		"command": s.command,
		"source":  func() error { return s.text(&s.order.Source) },
		"accepted_at": func() error {
			var at string
			if err := s.text(&at); err != nil {
				return err
			}
			s.order.AcceptedAt, _ = time.Parse(time.RFC3339Nano, at) // zero if it is none
			return nil
		},
	})
	if err == nil {
		if _, err = s.dec.Token(); err == nil {
			err = errors.New("something follows the command")
		} else if err == io.EOF {
			err = nil
		}
	}
	s.order.Version = recordVersion
	return s.order, err
}

// salvager reads command.json piece by piece.
type salvager struct {
	dec   *json.Decoder
	order order
}

// command reads the object under the key command.
func (s *salvager) command() error {
	var p payload
	cmd := &s.order.Command
	err := s.object(map[string]func() error{
		"command_id": func() error { return s.text(&cmd.ID) },
		"test_id":    func() error { return s.text(&cmd.TestID) },
		"type":       func() error { return s.text(&cmd.Type) },
		"payload": func() error {
			return s.object(map[string]func() error{
				"model_path":     func() error { return s.text(&p.ModelPath) },
				"engine_name":    func() error { return s.text(&p.EngineName) },
				"suite_name":     func() error { return s.text(&p.SuiteName) },
				"engine_mode":    func() error { return s.text(&p.EngineMode) },
				"benchmark_name": func() error { return s.text(&p.BenchmarkName) },
			})
		},
	})
	if err == nil {
		cmd.Payload = p.encode() // half a payload might ask for something else
	}
	return err
}

// object reads an object and calls the function for each key that has one. It
// skips all other values, and a value that is no object.
func (s *salvager) object(fields map[string]func() error) error {
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

// text reads a text into to. A value of another kind is skipped.
func (s *salvager) text(to *string) error {
	value, err := s.dec.Token()
	if err != nil {
		return err
	}
	if text, ok := value.(string); ok {
		*to = text
	}
	return s.skipRest(value)
}

// skip skips the next value.
func (s *salvager) skip() error {
	start, err := s.dec.Token()
	if err != nil {
		return err
	}
	return s.skipRest(start)
}

// skipRest skips what follows start, the first token of a value.
func (s *salvager) skipRest(start json.Token) error {
	for depth := step(start); depth > 0; {
		token, err := s.dec.Token()
		if err != nil {
			return err
		}
		depth += step(token)
	}
	return nil
}

// step returns by how many levels token leads deeper.
func step(token json.Token) int {
	switch token {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}
