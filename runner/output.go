package runner

import (
	"io"
	"strings"
	"sync"
	"time"
)

// An Output receives what a run prints. Its methods are safe for concurrent
// use, keep nothing of their arguments after they return, and never wait for a
// network or a reader.
type Output interface {
	// WriteOutput takes p, which the benchmark printed at time at (zero: now) and
	// which begins at position from of the run's output. p has any size and may
	// end within a line. A runner without positions uses [OutputWriter].
	WriteOutput(p []byte, at time.Time, from Position) error

	// WriteMessage takes text of the runner's own, such as which image it
	// chose: one line or several, the last with or without its newline.
	WriteMessage(text string) error
}

// A Position is a place in the output of a run, from which the run can be
// followed again after a restart: how many bytes of it come before.
type Position int64

// OutputWriter returns a writer that passes the whole output of one benchmark
// to out, with the number of bytes before it as its position. It suits a runner
// that cannot resume: `cmd.Stdout = runner.OutputWriter(out)`.
func OutputWriter(out Output) io.Writer { return &outputWriter{out: out} }

type outputWriter struct {
	out Output

	mu   sync.Mutex // held during WriteOutput, so that positions arrive in order
	next Position   // guarded by mu
}

func (w *outputWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.WriteOutput(p, time.Time{}, w.next); err != nil {
		return 0, err
	}
	w.next += Position(len(p))
	return len(p), nil
}

// NewOutput returns an Output that passes everything on to w and forgets
// positions. It is for programs that call a Runner without an agent.
func NewOutput(w io.Writer) Output { return plainOutput{w} }

type plainOutput struct{ w io.Writer }

func (o plainOutput) WriteOutput(p []byte, _ time.Time, _ Position) error {
	_, err := o.w.Write(p)
	return err
}

func (o plainOutput) WriteMessage(text string) error {
	_, err := io.WriteString(o.w, strings.TrimSuffix(text, "\n")+"\n")
	return err
}
