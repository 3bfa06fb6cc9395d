package logstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
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
// A comment comes every 30 s while nothing else does. When the log has ended
// the last event is "end", with {"command_id","status","error"}. States of a
// progress bar are events like the others, of kind "progress", so that readers
// that know only lines show them; a line that repeats the state before it is
// left out.
//
// A reader that takes nothing for 30 s is dropped; it may come back and go on
// where it was.
func ServeSSE(w http.ResponseWriter, r *http.Request, log *Log, commandID string) {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream; charset=utf-8")
	head.Set("Cache-Control", "no-cache")
	head.Set("X-Accel-Buffering", "no")
	head.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	f := &follower{w: w, control: http.NewResponseController(w), log: log, id: commandID, seq: firstSeq(r)}
	// The error says that the reader is gone, which is nobody's trouble.
	_ = f.run(r.Context())
}

// firstSeq returns the record to begin with. An id that makes no sense begins
// at the beginning: better twice than not at all.
func firstSeq(r *http.Request) int64 {
	last, err := strconv.ParseInt(strings.TrimSpace(r.Header.Get("Last-Event-ID")), 10, 64)
	if err != nil || last < 0 {
		return 0
	}
	return last + 1
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
	if err := f.send(nil); err != nil {
		return err
	}
	for {
		frames, next, err := f.log.frames.get(ctx, f.log, f.id, f.seq)
		switch {
		case err == nil:
			if err := f.send(frames); err != nil {
				return err
			}
			f.seq = next
			if f.seq < f.log.Len() {
				continue
			}
			// In a flood a reader gets a piece now and then rather than each
			// line by itself, which costs everybody less.
			if err := rest(ctx, followPace); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			return f.send(f.end())
		case errors.Is(err, errQuiet):
			if err := f.send([]byte(": keepalive\n\n")); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// rest waits for d.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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

// end returns the last event.
func (f *follower) end() []byte {
	last, _ := f.log.Final()
	data, err := json.Marshal(struct {
		CommandID string `json:"command_id"`
		Final
	}{f.id, last})
	if err != nil {
		return nil // texts always encode
	}
	return append(append([]byte("event: end\ndata: "), data...), "\n\n"...)
}

// errQuiet says that nothing came for a while.
var errQuiet = errors.New("nothing new")

// Bounds of the frames that all followers of a log share. A piece ends at every
// multiple of pieceRecords, so that followers that began at different records
// soon ask for the same pieces.
const (
	pieceRecords = 256
	pieceRead    = 32 << 10 // bytes of the file at once, so a piece is hardly larger
	cachedPieces = 16
)

// frameCache holds the latest pieces of a log in the form in which they leave,
// so that each is made once, not once a follower.
type frameCache struct {
	mu     sync.Mutex
	pieces map[int64]piece
	order  []int64 // the pieces' keys, the oldest first
	reader *Reader // stands behind the piece that was made last
}

// piece is the frames of the records from its key up to next.
type piece struct {
	id     string
	frames []byte
	next   int64
}

// get returns the frames that begin with record seq and the number of the
// record after them, waiting for one if need be. The error is io.EOF at the end
// of the log, errQuiet if nothing came for keepAliveEvery.
func (c *frameCache) get(ctx context.Context, log *Log, id string, seq int64) ([]byte, int64, error) {
	if err := log.awaitRecord(ctx, seq); err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pieces[seq]; ok && p.id == id {
		return p.frames, p.next, nil
	}
	p, err := c.makePieceLocked(log, id, seq)
	if err != nil {
		return nil, 0, err
	}
	if c.pieces == nil {
		c.pieces = map[int64]piece{}
	}
	if len(c.order) == cachedPieces {
		delete(c.pieces, c.order[0])
		c.order = c.order[1:]
	}
	c.pieces[seq] = p
	c.order = append(c.order, seq)
	return p.frames, p.next, nil
}

// awaitRecord waits until there is a record seq.
func (l *Log) awaitRecord(ctx context.Context, seq int64) error {
	var quiet *time.Timer
	for {
		count, _, changed, state := l.look()
		switch {
		case seq < count:
			return nil
		case state == logFinished:
			return io.EOF
		case state == logClosed:
			return errors.New("the log was closed")
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

// makePieceLocked makes the frames that begin with record seq, which is there.
// c.mu must be held.
func (c *frameCache) makePieceLocked(log *Log, id string, seq int64) (piece, error) {
	if c.reader == nil || c.reader.Seq() != seq {
		c.reader = log.Reader(seq)
	}
	_, size, _, _ := log.look()
	records, err := c.reader.read(size, pieceRead, int(pieceRecords-seq%pieceRecords))
	if err != nil {
		c.reader = nil
		return piece{}, err
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		return piece{}, err
	}
	p := piece{id: id, next: seq}
	for _, r := range records {
		if !r.Repeats() {
			p.frames = appendFrame(p.frames, quoted, r)
		}
		p.next = r.Seq + 1
	}
	return p, nil
}

// appendFrame appends the event of a record to b.
func appendFrame(b, quotedID []byte, r Record) []byte {
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, r.Seq, 10)
	b = append(b, "\nevent: log\ndata: {\"command_id\":"...)
	b = append(b, quotedID...)
	b = append(b, ",\"line\":"...)
	b = appendQuoted(b, r.Text)
	b = append(b, ",\"kind\":\""...)
	b = append(b, r.Kind.String()...)
	return append(b, "\"}\n\n"...)
}

// appendQuoted appends text as a JSON string.
func appendQuoted(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			quoted, err := json.Marshal(text)
			if err != nil {
				return append(b, `""`...) // a text always encodes
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}
