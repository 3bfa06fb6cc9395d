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

// get returns the frames that begin with record seq, which is there, and the
// number of the record after them.
func (c *frameCache) get(log *Log, id string, seq int64) ([]byte, int64, error) {
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
	if _, ok := c.pieces[seq]; !ok {
		if len(c.order) == cachedPieces {
			delete(c.pieces, c.order[0])
			c.order = append(c.order[:0], c.order[1:]...)
		}
		c.order = append(c.order, seq)
	}
	c.pieces[seq] = p
	return p.frames, p.next, nil
}

// makePieceLocked makes the frames that begin with record seq, which is there.
// c.mu must be held.
func (c *frameCache) makePieceLocked(log *Log, id string, seq int64) (piece, error) {
	if c.reader == nil || c.reader.Seq() != seq {
		c.reader = log.Reader(seq)
	}
	count, size, _, _ := log.look()
	most := min(pieceRecords-seq%pieceRecords, count-seq)
	p := piece{id: id}
	var head []byte // what stands between a record's number and its line
	head = append(head, "\nevent: log\ndata: {\"command_id\":"...)
	head = appendQuoted(head, []byte(id))
	head = append(head, ",\"line\":"...)
	err := c.reader.scan(size, pieceRead, int(most), func(seq int64, e entry) {
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
	if err != nil {
		c.reader = nil
		return piece{}, err
	}
	p.next = c.reader.Seq()
	return p, nil
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
