package jobs

import (
	"errors"
	"io"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// maxSalvage bounds what is read of a command.json that is too long, in bytes.
// Agents of version 1 made up to 10 GB of a command, almost all of it blanks.
const maxSalvage = 1 << 30

// salvageCommand returns what can be read of the command.json at path. It holds
// one value of the file in memory at a time, so the file may be long. With an
// error the file is damaged, and the result is what precedes the damage.
func salvageCommand(path string) (commandFile, error) {
	f, err := base.OpenRegular(path)
	if err != nil {
		return commandFile{}, err
	}
	defer f.Close()
	s := salvager{JSONStream: base.NewJSONStream(io.LimitReader(f, maxSalvage))}
	var source, at string
	err = s.Object(map[string]func() error{
		"command":     s.command,
		"source":      s.Text(&source),
		"accepted_at": s.Text(&at),
	})
	if err == nil {
		if _, err = s.Token(); err == nil {
			err = errors.New("something follows the command")
		} else if err == io.EOF {
			err = nil
		}
	}
	s.file.Version, s.file.Source = version, Source(source)
	s.file.AcceptedAt, _ = time.Parse(time.RFC3339Nano, at) // zero if it is not a time
	return s.file, err
}

// A salvager reads command.json piece by piece.
type salvager struct {
	base.JSONStream
	file commandFile
}

// command reads the object under the key command.
func (s *salvager) command() error {
	var spec Spec
	cmd := &s.file.Command
	err := s.Object(map[string]func() error{
		"command_id": s.Text(&cmd.ID),
		"test_id":    s.Text(&cmd.TestID),
		"type":       s.Text(&cmd.Type),
		"payload": func() error {
			return s.Object(map[string]func() error{
				"model_path":     s.mustText(&spec.Model),
				"engine_name":    s.mustText(&spec.Engine),
				"suite_name":     s.mustText(&spec.Suite),
				"engine_mode":    s.mustText(&spec.Mode),
				"benchmark_name": s.mustText(&spec.Benchmark),
				"profile_id":     s.Text((*string)(&spec.Profile)),
			})
		},
	})
	if err == nil {
		cmd.Spec = spec // half a payload might ask for something else
	}
	return err
}

// mustText is text, but fails at a value of another kind: a cleanup without its
// model would mean every copy.
func (s *salvager) mustText(to *string) func() error {
	return func() error {
		value, err := s.Token()
		if err != nil {
			return err
		}
		text, ok := value.(string)
		if !ok {
			return errors.New("a field of the payload is not a text")
		}
		*to = text
		return nil
	}
}
