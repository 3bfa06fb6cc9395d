// Package logstream keeps the log of one job: an append-only file that many
// readers follow live.
//
// A [Log] takes what a benchmark prints, in pieces of any size, and makes lines
// of it; each line is a [Record] on disk before a reader sees it. Readers
// ([Log.Reader], [ServeSSE]) read the file at their own pace and are woken when
// there is more. So a reader that is slow, or doesn't read at all, costs the
// benchmark and the other readers nothing, and never misses a line.
//
// # Lines
//
//   - A line ends with \n, or with \r\n.
//   - What ends with \r alone is a state of a progress bar. The latest state is
//     shown once a second; those between are dropped. The last one, which ends
//     with \n, is a line like any other.
//   - A program may redraw a line with backspaces and escape sequences, and go up
//     to redraw lines above: those of ECMA-48 that move the cursor in these ways
//     (A to G, `, s, u, ESC 7 and 8) and erase (K, J) are executed as a terminal
//     does, over up to 64 rows, and left out of the text. A row becomes a line, in
//     its last state, when the program has gone on below it. Text after a
//     carriage return or a line end replaces all that the row showed. A row that
//     is blank at its end has the last state that was not. A row that was a line
//     already when the program first went up to it is a second line at its end if
//     it changed.
//   - A line that stays open is shown as a state too after half a second, so
//     that nothing waits for a newline. When it ends unchanged its record says
//     that it repeats what was shown.
//   - A line longer than 64 KiB goes into several records, all but the last
//     marked as continued.
//   - Bytes that are not UTF-8 become U+FFFD. Colours and other ANSI codes stay
//     ([StripANSI] removes them).
//
// # The file
//
// A record is one line of text, which a person can read:
//
//	2026-11-23T16:18:40.362683123Z o 0.0.1024 Loading model
//
// the time, the kind (a [Kind]), the [Position] in the benchmark's output that
// follows the record, and the text. After a crash the log is opened again, the
// half-written end of the file cut off, and the benchmark's output fed again
// from [Log.Position]: no line is lost and none is there twice.
//
// A full disk delays nobody: the lines that it refuses are counted,
// and once there is room a record says how many are missing, and from when to
// when.
package logstream

import (
	"log/slog"
	"time"
)

// MaxLine is the longest text of a record, in bytes; longer lines are split.
const MaxLine = 64 << 10

// How long a state of a progress bar, or an open line, waits until it is shown.
const (
	showAfter     = 500 * time.Millisecond // for the first, and for an open line
	progressEvery = time.Second            // between states of a bar
	openEvery     = 5 * time.Second        // between states of a line that only grows
)

// Kind says what a record is.
type Kind byte

// The kinds of records.
const (
	Output    Kind = 'o' // a line that the benchmark printed
	Continued Kind = '+' // the beginning or middle of a line that was too long
	Progress  Kind = 'p' // a state of a line that has not ended
	Repeat    Kind = '=' // a line that ended as its last Progress showed it
	Note      Kind = 'n' // a line of the agent's own
	Gap       Kind = 'g' // lines are missing here, because the disk was full
	final     Kind = 'f' // the end of the log; no record to readers
)

// String returns a word for the kind.
func (k Kind) String() string {
	switch k {
	case Output, Repeat:
		return "output"
	case Continued:
		return "continued"
	case Progress:
		return "progress"
	case Note:
		return "note"
	case Gap:
		return "gap"
	}
	return "unknown"
}

func (k Kind) valid() bool {
	switch k {
	case Output, Continued, Progress, Repeat, Note, Gap, final:
		return true
	}
	return false
}

// A Record is one line of a log.
type Record struct {
	Seq  int64     // counts from 0
	Time time.Time // when it was printed
	Kind Kind
	Text string // without line ends; valid UTF-8
}

// Repeats reports whether the record's text was shown already, by the Progress
// before it.
func (r Record) Repeats() bool { return r.Kind == Repeat }

// A Position is a place in the output of a benchmark: Byte bytes of it come
// before. A log only ever adds to Byte.
//
// Stamp and Count are 0 but for the containers of older agents, whose output came
// in entries: they name one, and Byte is a place in it.
type Position struct {
	Stamp int64
	Count int64
	Byte  int64
}

// Final is the end of a log.
type Final struct {
	Status string `json:"status"` // how the job ended: completed, failed or cancelled
	Error  string `json:"error"`  // why, for a person; empty if it ended well
}

// Options say how a log is kept. The zero value is fine.
type Options struct {
	// Secrets are texts that are replaced in every line, also in the forms in
	// which URLs, JSON and base64 hold them. Those of fewer than six bytes are
	// left alone, since they would blot out ordinary words. Of one with several
	// lines each line counts by itself.
	Secrets []string

	// ReadOnly opens a log that may be another program's to write: it is not
	// made, repaired or appended to. Readers come to an end after the last line that
	// was there when it was opened.
	ReadOnly bool

	// Logger is told of damage, and of a disk that is full. Defaults to none.
	Logger *slog.Logger
}
