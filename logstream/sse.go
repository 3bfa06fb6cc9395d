package logstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	keepAliveEvery = 30 * time.Second // between comments on a quiet stream
	writeTimeout   = 30 * time.Second // for a reader to take one piece
	followPace     = 20 * time.Millisecond
)

// ServeSSE answers r with the log as Server-Sent Events, from its beginning or
// from after the event that r's Last-Event-ID names, and follows it until its
// end:
//
//	id: 41
//	event: log
//	data: {"command_id":"2cf1fe73bb3b43c0","line":"Loading model","kind":"output"}
//
// The kind is a [Kind] in a word. States of a progress bar are events like the
// others, of kind "progress", so that readers that know only lines show them; a
// line that repeats the state before it is left out.
//
// A comment comes every 30 s while nothing else does. When the log has ended
// the last event is "end", with {"command_id","status","error"}; a reader that
// asks for what follows it is answered 204, which tells a browser to ask no
// more.
//
// Readers take the log from its file, so that none of them ever misses a line.
// One that takes nothing for 30 s is dropped; it may come back and go on where
// it was. What the kernel holds for it meanwhile, up to 4 MiB on Linux, is for
// the server to bound, with [net.TCPConn.SetWriteBuffer] in its ConnContext: with
// 256 KiB and 50 readers that took nothing, a flood reached another one in a
// quarter of the time.
func ServeSSE(w http.ResponseWriter, r *http.Request, log *Log, commandID string) {
	seq := firstSeq(r)
	count, _, _, state := log.look()
	switch {
	case seq == count+1 && state == logFinished:
		w.WriteHeader(http.StatusNoContent)
		return
	case seq > count:
		seq = 0 // no number that this log gave out: better twice than not at all
	}
	head := w.Header()
	head.Set("Content-Type", "text/event-stream; charset=utf-8")
	head.Set("Cache-Control", "no-cache")
	head.Set("X-Accel-Buffering", "no")
	head.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	f := &follower{w: w, control: http.NewResponseController(w), log: log, id: commandID, seq: seq}
	// The error says that the reader is gone, which is no fault.
	_ = f.run(r.Context())
}

// firstSeq returns the record to begin with. An id that makes no sense begins
// at the beginning.
func firstSeq(r *http.Request) int64 {
	last, err := strconv.ParseUint(strings.TrimSpace(r.Header.Get("Last-Event-ID")), 10, 62)
	if err != nil {
		return 0
	}
	return int64(last) + 1
}

// follower sends a log to one reader.
type follower struct {
	w       http.ResponseWriter
	control *http.ResponseController
	log     *Log
	id      string
	seq     int64
}

func (f *follower) run(ctx context.Context) error {
	if err := f.send(nil); err != nil { // the head leaves at once
		return err
	}
	for {
		err := f.log.await(ctx, f.seq)
		switch {
		case errors.Is(err, io.EOF):
			last, ok := f.log.Final()
			if !ok {
				return nil // a log that is only read may go on elsewhere
			}
			return f.send(endFrame(f.id, f.seq, last))
		case errors.Is(err, errQuiet):
			if err := f.send([]byte(": keepalive\n\n")); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		frames, next, err := f.log.frames.get(f.log, f.id, f.seq)
		if err != nil {
			return err
		}
		if err := f.send(frames); err != nil {
			return err
		}
		f.seq = next
		if f.seq < f.log.Len() {
			continue
		}
		// In a flood a reader gets a piece now and then rather than each line by
		// itself, which costs everybody less.
		if err := base.Wait(ctx, followPace); err != nil {
			return err
		}
	}
}

// send writes p and makes it leave.
func (f *follower) send(p []byte) error {
	// A writer that knows no deadline can't be stuck on a network.
	_ = f.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if len(p) > 0 {
		if _, err := f.w.Write(p); err != nil {
			return err
		}
	}
	return f.control.Flush()
}

// errQuiet says that nothing came for a while.
var errQuiet = errors.New("nothing new")

// await waits until there is a record seq. The error is io.EOF at the end of the
// log, errQuiet if nothing came for keepAliveEvery, ctx's if that ends first.
func (l *Log) await(ctx context.Context, seq int64) error {
	var quiet *time.Timer
	for {
		count, _, changed, state := l.look()
		switch {
		case seq < count:
			return nil
		case state == logFinished:
			return io.EOF
		case state == logClosed:
			return os.ErrClosed
		}
		if quiet == nil {
			quiet = time.NewTimer(keepAliveEvery)
			defer quiet.Stop()
		}
		select {
		case <-changed:
		case <-quiet.C:
			return errQuiet
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
