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

// A Position is a place in the output of a run, to which the run can be
// followed again after a restart. Its fields mean what the runner says they do;
// the agent only adds to Byte as it consumes what was written.
type Position struct {
	Stamp int64 // nanoseconds since 1970 of the engine's log entry; 0 where entries bear no time
	Count int64 // entries that bear Stamp and come before this one
	Byte  int64 // bytes into that entry, or into the output as a whole
}

// OutputWriter returns a writer that passes the whole output of one benchmark
// to out, with the number of bytes before it as its position. It suits a runner
// that cannot resume: `cmd.Stdout = runner.OutputWriter(out)`.
func OutputWriter(out Output) io.Writer { return &outputWriter{out: out} }

type outputWriter struct {
	out Output

	mu   sync.Mutex // held during WriteOutput, so that positions arrive in order
	next int64      // guarded by mu
}

func (w *outputWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.WriteOutput(p, time.Time{}, Position{Byte: w.next}); err != nil {
		return 0, err
	}
	w.next += int64(len(p))
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
