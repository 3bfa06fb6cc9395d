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

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// This file follows containers that were started by an agent from before package
// supervisor, whose output and outcome the engine keeps. It is removed in v0.2.0.

// An oldOutput is an Output that keeps the positions of such a container as older
// agents do, so that an older one can follow it again after a rollback. The agent's
// is one.
type oldOutput interface {
	// OldPosition returns the position behind what was kept of the output.
	OldPosition() (stamp, count, byteAt int64)

	// WriteOldOutput is WriteOutput with such a position.
	WriteOldOutput(p []byte, at time.Time, stamp, count, byteAt int64) error
}

// A position is a place in the engine's log of a container.
type position struct {
	Stamp int64 // nanoseconds since 1970 of the log's entry
	Count int64 // entries that bear Stamp and come before this one
	Byte  int64 // bytes into that entry
}

// An engineLog is the source of such a container.
type engineLog struct {
	f      *follower
	cursor cursor
	old    oldOutput       // nil if the Output is none
	next   runner.Position // for such an Output: bytes of the whole log that were passed on
	skip   runner.Position // and those that were before this program
}

func newEngineLog(f *follower, from runner.Position) *engineLog {
	l := &engineLog{f: f, skip: from}
	if old, ok := f.out.(oldOutput); ok {
		l.old = old
		p := &l.cursor.pos
		p.Stamp, p.Count, p.Byte = old.OldPosition()
	}
	return l
}

// pass passes on what was printed at a time, and begins at a position.
func (l *engineLog) pass(p []byte, at time.Time, from position) {
	if l.old != nil {
		l.f.note(l.old.WriteOldOutput(p, at, from.Stamp, from.Count, from.Byte))
		return
	}
	before := min(l.skip-l.next, runner.Position(len(p)))
	if before > 0 {
		l.next += before
		p = p[before:]
	}
	if len(p) > 0 {
		l.f.note(l.f.out.WriteOutput(p, at, l.next))
		l.next += runner.Position(len(p))
	}
}

func (l *engineLog) close() error { return nil }

func (l *engineLog) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.f.r.config.Timeout)
	defer cancel()
	return l.read(ctx, false)
}

// outcome returns what the engine says.
func (l *engineLog) outcome(ctx context.Context) (*end, error) {
	s, err := l.f.state(ctx)
	if err != nil {
		return nil, err
	}
	if s.ExitCode == exitUnknown && l.f.rebooted() {
		return nil, lost("the machine was restarted while it ran")
	}
	e := &end{
		Code: s.ExitCode, OOM: s.OOMKilled || l.f.rec.kernelKilled(s.ExitCode, kernelKills(), base.BootID()),
		Detail: s.Error, Started: moment(s.StartedAt), Finished: moment(s.FinishedAt),
	}
	if e.Finished.Before(e.Started) {
		// The engine notes down a start after it has happened, and a very short
		// run's end before that.
		e.Finished = e.Started
	}
	return e, nil
}

// maxUnread is after how many attempts the log of a container that has ended is
// given up.
const maxUnread = 10

// toEnd returns nil when the container has ended and all of its log was passed
// on. An engine that goes away is waited for.
func (l *engineLog) toEnd(ctx context.Context) error {
	for unread := 0; ; {
		err := l.readWatched(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			l.f.r.log.Warn("following the log of a container was cut short", "container", l.f.id, "error", err)
		}
		// That the stream has ended doesn't say that the container has: the
		// engine may have been restarted, or have rotated the log.
		state, err := l.f.state(ctx)
		switch {
		case err != nil:
			return err
		case ended(state):
			// What was printed between the end of the stream and that of the
			// container.
			err := l.read(ctx, false)
			if err == nil {
				l.sayAwayAtTheEnd(state)
				return nil
			}
			if unread++; unread == maxUnread && ctx.Err() == nil {
				l.f.say("the rest of the output is missing, the Docker engine can't read it: %v", err)
				return nil
			}
		}
		if err := base.Wait(ctx, retryPause); err != nil {
			return err
		}
	}
}

// readWatched follows the log. It ends that when the container has ended and
// the stream doesn't notice, and when the engine answers no more: a stream of
// an engine that hangs is silent for good.
func (l *engineLog) readWatched(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for silent := 0; silent < 2; {
			if base.Wait(ctx, lookPause) != nil {
				return
			}
			s, err := l.f.r.inspect(ctx, l.f.id)
			switch {
			case err == nil && ended(s), errdefs.IsNotFound(err):
				silent++
			case err != nil:
				silent = 2
			}
		}
		cancel()
	}()
	err := l.read(ctx, true)
	cancel()
	<-watched
	return err
}

// moment reads a time of the engine's.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// maxEntry bounds one entry of the engine's log, in bytes. The engine cuts
// lines at 16 KiB.
const maxEntry = 1 << 20

// A cursor is a place in a container's log. Entries are counted from the first
// one that bears the greatest stamp so far, in the order of the log: that finds
// the place again also where stamps don't ascend.
type cursor struct {
	pos position

	// While skipping, the entries up to pos are passed over. They begin with the
	// first that bears pos.Stamp or a later one.
	skipping bool
	found    bool
	left     int64

	// cut is set when the entry that is looked for is no more in the log, and gone
	// when it was said that nothing behind it is there either.
	cut  bool
	gone bool
}

// reopen makes the cursor ready for the log from its beginning. To have the engine
// leave out what is older than the place would be no quicker, since it reads all
// of it too, and would lose what was printed after the clock was set back.
func (c *cursor) reopen() {
	c.skipping, c.found, c.left = c.pos.Stamp != 0, false, c.pos.Count
}

// take returns what is left to be passed on of an entry, and where it begins.
func (c *cursor) take(stamp int64, text []byte) ([]byte, position) {
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
		return text[cut:], position{Stamp: c.pos.Stamp, Count: c.pos.Count, Byte: cut}
	}
	if stamp > c.pos.Stamp {
		return text, position{Stamp: stamp}
	}
	return text, position{Stamp: c.pos.Stamp, Count: c.pos.Count + 1}
}

// sayCutOff says, once, that a log that was read to its end does not hold the place
// that was reached before: somebody removed it, or cut it off.
func (l *engineLog) sayCutOff() {
	if !l.cursor.skipping || l.cursor.gone {
		return
	}
	l.cursor.gone = true
	l.f.say("lines may be missing here: the Docker engine's log of the container was removed or cut off, and ends before %s, up to where it was read",
		time.Unix(0, l.cursor.pos.Stamp).UTC().Format(time.RFC3339Nano))
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
func (l *engineLog) read(ctx context.Context, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The stream has no deadline, but that it opens has.
	opening := time.AfterFunc(l.f.r.config.Timeout, cancel)
	l.cursor.reopen()
	stream, err := l.f.r.engine.ContainerLogs(ctx, l.f.id, client.ContainerLogsOptions{
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
	silence := time.AfterFunc(l.f.r.config.Timeout, cancel)
	defer silence.Stop()
	if follow {
		silence.Stop()
	}
	for {
		if !follow {
			silence.Reset(l.f.r.config.Timeout)
		}
		at, text, err := entries.next()
		if errors.Is(err, io.EOF) {
			if !follow {
				l.sayCutOff()
			}
			return nil
		}
		if err != nil {
			return err
		}
		rest, from := l.cursor.take(at.UnixNano(), text)
		if l.cursor.skipping {
			continue
		}
		if l.cursor.cut {
			l.cursor.cut = false
			l.f.say("lines are missing here: the Docker engine's log has lost what it held from %s to %s",
				time.Unix(0, l.cursor.pos.Stamp).UTC().Format(time.RFC3339Nano), at.Format(time.RFC3339Nano))
		}
		if len(rest) > 0 {
			l.pass(rest, at, from)
		}
		from.Byte += int64(len(rest))
		l.cursor.pos = from
	}
}
