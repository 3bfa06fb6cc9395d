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
// one value of the file in memory at a time, so the file may be long.
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
	s := salvager{jsonStream: jsonStream{json.NewDecoder(io.LimitReader(f, maxSalvage))}}
	var at string
	err = s.object(map[string]func() error{
		"command":     s.command,
		"source":      s.text(&s.order.Source),
		"accepted_at": s.text(&at),
	})
	if err == nil {
		if _, err = s.dec.Token(); err == nil {
			err = errors.New("something follows the command")
		} else if err == io.EOF {
			err = nil
		}
	}
	s.order.Version = recordVersion
	s.order.AcceptedAt, _ = time.Parse(time.RFC3339Nano, at) // zero if it is no time
	return s.order, err
}

// salvager reads command.json piece by piece.
type salvager struct {
	jsonStream
	order order
}

// command reads the object under the key command.
func (s *salvager) command() error {
	var p payload
	cmd := &s.order.Command
	err := s.object(map[string]func() error{
		"command_id": s.text(&cmd.ID),
		"test_id":    s.text(&cmd.TestID),
		"type":       s.text(&cmd.Type),
		"payload": func() error {
			return s.object(map[string]func() error{
				"model_path":     s.text(&p.ModelPath),
				"engine_name":    s.text(&p.EngineName),
				"suite_name":     s.text(&p.SuiteName),
				"engine_mode":    s.text(&p.EngineMode),
				"benchmark_name": s.text(&p.BenchmarkName),
			})
		},
	})
	if err == nil {
		cmd.Payload = p.encode() // half a payload might ask for something else
	}
	return err
}
