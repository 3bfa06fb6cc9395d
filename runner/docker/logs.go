package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
)

// maxEntry bounds one entry of the engine's log, in bytes. The engine cuts
// lines at 16 KiB.
const maxEntry = 1 << 20

// A cursor is a place in a container's log. Entries are counted from the first
// one that bears the greatest stamp so far, in the order of the log: that finds
// the place again also where stamps don't ascend.
type cursor struct {
	pos runner.Position

	// While skipping, the entries up to pos are passed over. They begin with the
	// first that bears pos.Stamp or a later one.
	skipping bool
	found    bool
	left     int64

	// cut is set when the entry that is looked for is no more in the log.
	cut bool
}

// reopen makes the cursor ready for the log from its beginning. To have the engine
// leave out what is older than the place would be no quicker, since it reads all
// of it too, and would lose what was printed after the clock was set back.
func (c *cursor) reopen() {
	c.skipping, c.found, c.left = c.pos.Stamp != 0, false, c.pos.Count
}

// take returns what is left to be passed on of an entry, and where it begins.
func (c *cursor) take(stamp int64, text []byte) ([]byte, runner.Position) {
	if c.skipping {
		if !c.found && stamp < c.pos.Stamp {
			return nil, c.pos
		}
		if !c.found && stamp > c.pos.Stamp {
			// The entry is no more in the log, which was cut: all of it is new.
			c.skipping, c.cut = false, true
			return c.take(stamp, text)
		}
		c.found = true
		if c.left > 0 {
			c.left--
			return nil, c.pos
		}
		c.skipping = false
		cut := min(c.pos.Byte, int64(len(text)))
		return text[cut:], runner.Position{Stamp: c.pos.Stamp, Count: c.pos.Count, Byte: cut}
	}
	if stamp > c.pos.Stamp {
		return text, runner.Position{Stamp: stamp}
	}
	return text, runner.Position{Stamp: c.pos.Stamp, Count: c.pos.Count + 1}
}

// An entryReader reads the entries of the engine's log stream: a header of
// eight bytes, of which the last four are the length, the stamp and the text.
type entryReader struct {
	r   *bufio.Reader
	buf []byte
}

var errLogFormat = errors.New("the Docker engine's log is not in the form that is known")

// next returns the next entry, which is valid until the next call.
func (e *entryReader) next() (time.Time, []byte, error) {
	var header [8]byte
	if _, err := io.ReadFull(e.r, header[:]); err != nil {
		return time.Time{}, nil, err
	}
	size := binary.BigEndian.Uint32(header[4:])
	if size > maxEntry || header[0] > 3 {
		return time.Time{}, nil, errLogFormat
	}
	if cap(e.buf) < int(size) {
		e.buf = make([]byte, size)
	}
	e.buf = e.buf[:size]
	if _, err := io.ReadFull(e.r, e.buf); err != nil {
		return time.Time{}, nil, err
	}
	if header[0] == 3 {
		return time.Time{}, nil, fmt.Errorf("the Docker engine's log: %s", bytes.TrimSpace(e.buf))
	}
	stamp, text, ok := bytes.Cut(e.buf, []byte{' '})
	if !ok {
		return time.Time{}, nil, errLogFormat
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, nil, errLogFormat
	}
	return at, text, nil
}

// read passes the container's log on from c until it ends: with follow, when
// the container has ended, or the engine does not let us follow any longer.
func (f *follower) read(ctx context.Context, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The stream has no deadline, but that it opens has.
	opening := time.AfterFunc(f.r.config.Timeout, cancel)
	f.cursor.reopen()
	stream, err := f.r.engine.ContainerLogs(ctx, f.id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow,
	})
	if err != nil {
		opening.Stop()
		return err
	}
	defer stream.Close()
	if !opening.Stop() {
		return context.DeadlineExceeded
	}
	entries := entryReader{r: bufio.NewReaderSize(stream, 64<<10)}
	// A log that isn't followed is all there, so it is never silent for long.
	silence := time.AfterFunc(f.r.config.Timeout, cancel)
	defer silence.Stop()
	if follow {
		silence.Stop()
	}
	for {
		if !follow {
			silence.Reset(f.r.config.Timeout)
		}
		at, text, err := entries.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		rest, from := f.cursor.take(at.UnixNano(), text)
		if f.cursor.skipping {
			continue
		}
		if f.cursor.cut {
			f.cursor.cut = false
			f.say("lines are missing here: the Docker engine's log has lost what it held from %s to %s",
				time.Unix(0, f.cursor.pos.Stamp).UTC().Format(time.RFC3339Nano), at.Format(time.RFC3339Nano))
		}
		if len(rest) > 0 {
			f.note(f.out.WriteOutput(rest, at, from))
		}
		from.Byte += int64(len(rest))
		f.cursor.pos = from
	}
}

// note keeps the first error of the job's log. A log that can't be written is
// no reason to end a benchmark.
func (f *follower) note(err error) {
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write to the job's log: %w", err)
	}
}

// say writes a line of the runner's own.
func (f *follower) say(format string, args ...any) {
	f.note(f.out.WriteMessage(fmt.Sprintf(format, args...)))
}
