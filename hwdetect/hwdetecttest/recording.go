package hwdetecttest

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing/fstest"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Recording holds the files and the command output of a machine.
type Recording struct {
	// Note describes the machine and how it was recorded.
	Note string

	// Files are the machine's files: proc/cpuinfo and so on.
	Files fstest.MapFS

	// Answers are the results of commands, by command line.
	Answers map[string]Answer
}

// An Answer is the result of a command.
type Answer struct {
	Output string
	Status int // exit status
}

var (
	heading  = regexp.MustCompile(`^-- (.+) --$`)
	exitWord = regexp.MustCompile(`^(.*) \(exit (\d+)\)$`)
)

// ParseRecording parses the text of a recording: a note, then the content of each
// file and each answer below its heading.
//
//	One A100, recorded on …
//	-- proc/meminfo --
//	MemTotal:       528279976 kB
//	-- usr/local/cuda -> /usr/local/cuda-12.4 --
//	-- $ nvidia-smi -L (exit 9) --
//	NVIDIA-SMI has failed because …
//
// A heading with a dollar sign is a command, with its exit status if that is not
// 0. An arrow makes a symbolic link. The error is for a heading that is not a
// valid path.
func ParseRecording(text string) (*Recording, error) {
	r := &Recording{Files: fstest.MapFS{}, Answers: map[string]Answer{}}
	var name string
	var body strings.Builder
	finish := func() error {
		if name == "" {
			r.Note = strings.TrimSpace(body.String())
			return nil
		}
		if command, ok := strings.CutPrefix(name, "$ "); ok {
			a := Answer{Output: body.String()}
			if m := exitWord.FindStringSubmatch(command); m != nil {
				command = m[1]
				a.Status, _ = strconv.Atoi(m[2])
			}
			r.Answers[command] = a
			return nil
		}
		file := &fstest.MapFile{Data: []byte(body.String()), Mode: 0o444}
		path, target, isLink := strings.Cut(name, " -> ")
		if isLink {
			file = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		}
		if !fs.ValidPath(path) {
			return fmt.Errorf("hwdetecttest: heading %q is not a valid path", path)
		}
		r.Files[path] = file
		return nil
	}
	for line := range strings.Lines(text) {
		m := heading.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			body.WriteString(line)
			continue
		}
		if err := finish(); err != nil {
			return nil, err
		}
		name = m[1]
		body.Reset()
	}
	if err := finish(); err != nil {
		return nil, err
	}
	return r, nil
}

// NVIDIASMI returns the recorded result of nvidia-smi with args. It is a
// [hwdetect.RunFunc]. The error matches [hwdetect.ErrAbsent] if the recording has
// no nvidia-smi at all.
func (r *Recording) NVIDIASMI(ctx context.Context, args ...string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	known := false
	for command := range r.Answers {
		known = known || strings.HasPrefix(command, "nvidia-smi")
	}
	if !known {
		return nil, hwdetect.ErrAbsent
	}
	a, ok := r.Answers[strings.Join(append([]string{"nvidia-smi"}, args...), " ")]
	if !ok {
		return nil, fmt.Errorf("hwdetecttest: the recording has no answer to nvidia-smi %s", strings.Join(args, " "))
	}
	if a.Status != 0 {
		return []byte(a.Output), fmt.Errorf("exit status %d", a.Status)
	}
	return []byte(a.Output), nil
}

// Config returns the settings for a [hwdetect.System] that describes the recorded
// machine.
func (r *Recording) Config() hwdetect.Config {
	return hwdetect.Config{Root: r.Files, NVIDIASMI: r.NVIDIASMI}
}
