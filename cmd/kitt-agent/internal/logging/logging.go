// Package logging makes the logger of the daemon: to standard error in the form
// that suits its reader, and to a file that is rotated.
//
// Rotation is timberjack's, the lumberjack that is still looked after. What is
// secret is kept out of the log by types that cannot be printed, not by
// searching the text.
package logging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/DeRuina/timberjack"
	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// The file is rotated at 5 MB, and three old ones are kept, as the Python agent
// does.
const (
	maxMegabytes = 5
	keptFiles    = 3
)

// The forms of a log. FormatAuto is coloured text at a terminal and JSON
// elsewhere.
const (
	FormatAuto = "auto"
	FormatText = "text"
	FormatJSON = "json"
)

// Options say how to log.
type Options struct {
	Level  slog.Leveler // defaults to info
	Format string       // one of the Format constants; empty means FormatAuto
	Output io.Writer    // where an operator reads; nil for nowhere
	Color  bool         // whether text is coloured; see [Color]

	// Journal says that Output is systemd's journal, which notes time and level
	// itself; see [Journal]. Auto then means plain text.
	Journal bool

	// File is the path of the log file, which always holds JSON. Empty for
	// none.
	File string
}

// New returns a logger and what closes its file. A file that cannot be written
// does not keep the logger from logging to Output: it is said there once, and
// the file is tried again with each record. Nobody waits for the file's disk: a record
// for which one that hangs leaves no room is counted, and missing in the file.
func New(o Options) (*slog.Logger, io.Closer, error) {
	level := o.Level
	if level == nil {
		level = slog.LevelInfo
	}
	out := slog.DiscardHandler
	if o.Output != nil {
		out = outputHandler(o, level)
	}
	if o.File == "" {
		return slog.New(out), nothing{}, nil
	}
	if err := os.MkdirAll(filepath.Dir(o.File), 0o700); err != nil {
		return slog.New(out), nothing{}, err
	}
	rotated := &timberjack.Logger{Filename: o.File, MaxSize: maxMegabytes, MaxBackups: keptFiles, FileMode: 0o600, Compression: "none"}
	file := newLineQueue(&forgivingWriter{w: rotated, complain: slog.New(out)}, maxWaiting, lostRecords, func(error) {})
	both := slog.NewMultiHandler(out, newJSONHandler(file, level))
	return slog.New(both), file, nil
}

// lostRecords returns the record that says how many are missing.
func lostRecords(lost int) []byte {
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, nil)).Warn("records are missing here: the disk took too long", "records", lost)
	return line.Bytes()
}

func outputHandler(o Options, level slog.Leveler) slog.Handler {
	format := o.Format
	if format == "" || format == FormatAuto {
		format = FormatJSON
		if IsTerminal(o.Output) || o.Journal {
			format = FormatText
		}
	}
	if o.Journal {
		return newJournalHandler(o.Output, level, format)
	}
	if format == FormatText {
		return tint.NewTextHandler(o.Output, &tint.Options{Level: level, TimeFormat: "2006-01-02 15:04:05", NoColor: !o.Color})
	}
	return newJSONHandler(o.Output, level)
}

// newJSONHandler returns a handler that writes JSON with durations as text, such as
// "1m30s": a number alone would not say its unit.
func newJSONHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}})
}

// IsTerminal reports whether w writes to a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Color reports whether to colour what is written to w: at a terminal, unless
// NO_COLOR is set (no-color.org) or the terminal is a dumb one.
func Color(w any, getenv func(string) string) bool {
	return IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// forgivingWriter writes to a file that may fail, on a full disk for one. The
// first failure and the recovery are said elsewhere, and the caller is never
// bothered: nobody stops working because its log can't be written.
type forgivingWriter struct {
	w        io.WriteCloser
	complain *slog.Logger
	failing  atomic.Bool
}

func (f *forgivingWriter) Write(p []byte) (int, error) {
	_, err := f.w.Write(p)
	switch {
	case err != nil && !f.failing.Swap(true):
		f.complain.LogAttrs(context.Background(), slog.LevelWarn, "log file not written", slog.Any("err", plain(err)))
	case err == nil && f.failing.Swap(false):
		f.complain.LogAttrs(context.Background(), slog.LevelInfo, "log file written again")
	}
	return len(p), nil
}

func (f *forgivingWriter) Close() error { return f.w.Close() }

// plain returns the reason at the bottom of err.
func plain(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr
	}
	return err
}

type nothing struct{}

func (nothing) Close() error { return nil }
