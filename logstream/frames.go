package logstream

import (
	"encoding/json"
	"strconv"
	"sync"
	"unicode/utf8"
)

// Bounds of the frames that all followers of a log share. A piece ends at every
// multiple of pieceRecords, so that followers that began at different records
// soon ask for the same pieces.
const (
	pieceRecords = 256
	pieceRead    = 32 << 10 // bytes of the file at once, so a piece is hardly larger
	cachedBytes  = 4 << 20  // of frames: enough for followers that are this far apart
)

// frameCache holds the latest pieces of a log in the form in which they leave,
// so that each is made once, not once a follower.
type frameCache struct {
	mu     sync.Mutex // not held while a piece is made
	pieces map[int64]*piece
	order  []*piece // the pieces that are made, the oldest first
	size   int      // bytes of their frames
	reader *Reader  // stands behind the piece that was made last; nil while in use
}

// piece is the frames of the records from seq up to next. All but seq and id is
// written before made is closed.
type piece struct {
	seq    int64
	id     string
	made   chan struct{}
	frames []byte
	next   int64
	err    error
}

// get returns the frames that begin with record seq, which is there, and the
// number of the record after them.
func (c *frameCache) get(log *Log, id string, seq int64) ([]byte, int64, error) {
	p, isNew := c.find(id, seq)
	if isNew {
		c.build(log, p)
	}
	<-p.made
	return p.frames, p.next, p.err
}

// find returns the piece that begins with record seq, and whether the caller has
// to make it.
func (c *frameCache) find(id string, seq int64) (p *piece, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pieces[seq]; ok && p.id == id {
		return p, false
	}
	if c.pieces == nil {
		c.pieces = map[int64]*piece{}
	}
	p = &piece{seq: seq, id: id, made: make(chan struct{})}
	c.pieces[seq] = p
	return p, true
}

// build makes p and closes p.made. The oldest pieces make room for it.
func (c *frameCache) build(log *Log, p *piece) {
	defer close(p.made)
	c.mu.Lock()
	reader := c.reader
	c.reader = nil
	c.mu.Unlock()
	if reader == nil || reader.Seq() != p.seq {
		reader = log.Reader(p.seq)
	}
	p.err = p.fill(log, reader)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.err != nil {
		c.forget(p)
		return
	}
	c.reader = reader
	c.order, c.size = append(c.order, p), c.size+len(p.frames)
	for c.size > cachedBytes && len(c.order) > 1 {
		oldest := c.order[0]
		c.order[0] = nil
		c.order, c.size = c.order[1:], c.size-len(oldest.frames)
		c.forget(oldest)
	}
}

// forget drops p, unless another piece is in its place. c.mu must be held.
func (c *frameCache) forget(p *piece) {
	if c.pieces[p.seq] == p {
		delete(c.pieces, p.seq)
	}
}

// fill makes the frames of p, whose first record is there, with a reader that
// stands before it.
func (p *piece) fill(log *Log, reader *Reader) error {
	count, size, _, _ := log.look()
	most := min(pieceRecords-p.seq%pieceRecords, count-p.seq)
	var head []byte // what stands between a record's number and its line
	head = append(head, "\nevent: log\ndata: {\"command_id\":"...)
	head = appendQuoted(head, []byte(p.id))
	head = append(head, ",\"line\":"...)
	err := reader.scan(size, pieceRead, int(most), func(seq int64, e entry) {
		if e.kind == Repeat {
			return
		}
		p.frames = append(p.frames, "id: "...)
		p.frames = strconv.AppendInt(p.frames, seq, 10)
		p.frames = append(p.frames, head...)
		p.frames = appendQuoted(p.frames, e.text)
		p.frames = append(p.frames, ",\"kind\":\""...)
		p.frames = append(p.frames, e.kind.String()...)
		p.frames = append(p.frames, "\"}\n\n"...)
	})
	p.next = reader.Seq()
	return err
}

// endFrame returns the event that ends a stream.
func endFrame(id string, seq int64, last Final) []byte {
	data, err := json.Marshal(struct {
		CommandID string `json:"command_id"`
		Final
	}{id, last})
	if err != nil {
		return nil // texts always encode
	}
	b := strconv.AppendInt([]byte("id: "), seq, 10)
	b = append(append(b, "\nevent: end\ndata: "...), data...)
	return append(b, "\n\n"...)
}

// appendQuoted appends text as a JSON string. encoding/json, which takes three
// times as long, is what it is held to by a test.
func appendQuoted(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		n := 1
		var escaped [6]byte
		escape := escaped[:0]
		switch {
		case c == '"' || c == '\\':
			escape = append(escape, '\\', c)
		case c == '\t':
			escape = append(escape, '\\', 't')
		case c < 0x20:
			escape = append(escape, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		default:
			var r rune
			switch r, n = utf8.DecodeRune(text[i:]); {
			case r == utf8.RuneError && n == 1:
				escape = append(escape, "\uFFFD"...)
			case r == '\u2028' || r == '\u2029': // line ends to old JavaScript
				escape = append(escape, '\\', 'u', '2', '0', '2', hex[r&0xf])
			default:
				i += n
				continue
			}
		}
		b = append(append(b, text[done:i]...), escape...)
		i += n
		done = i
	}
	return append(append(b, text[done:]...), '"')
}
