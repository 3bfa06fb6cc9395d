package kittapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// backlog is how many events a reader of the stream may be behind; beyond that
// it loses events in silence, as on the real server.
const backlog = 100

// broker hands events to those who follow the stream. Its zero value is ready.
type broker struct {
	mu   sync.Mutex
	subs map[chan event]bool
}

type event struct {
	id   string // of the test or agent that it is about
	text []byte
}

// send hands an event to everybody, and waits for nobody.
func (b *broker) send(id, name string, data any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subs) == 0 {
		return
	}
	text, err := json.Marshal(data)
	if err != nil {
		return // texts always encode
	}
	e := event{id, []byte(fmt.Sprintf("event: %s\ndata: %s\n\n", name, ascii(text)))}
	for c := range b.subs {
		select {
		case c <- e:
		default:
		}
	}
}

// ascii escapes what is not ASCII in a JSON text, as the server does.
func ascii(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

func (b *broker) subscribe() (chan event, func()) {
	c := make(chan event, backlog)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = map[chan event]bool{}
	}
	b.subs[c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, c)
	}
}

// stream sends events as they come. As on the real server the head of the answer
// leaves with the first event or keepalive, and a keepalive comes only after 30 s
// without an event of anyone's.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	events, stop := s.events.subscribe()
	defer stop()
	head := w.Header()
	head.Set("Content-Type", "text/event-stream; charset=utf-8")
	head.Set("Cache-Control", "no-cache")
	head.Set("X-Accel-Buffering", "no")
	flush := http.NewResponseController(w)
	quiet := time.NewTimer(keepAliveEvery)
	defer quiet.Stop()
	for {
		var text []byte
		select {
		case e := <-events:
			if id := r.PathValue("id"); id == "" || id == e.id {
				text = e.text
			}
		case <-quiet.C:
			text = []byte(": keepalive\n\n")
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
		quiet.Reset(keepAliveEvery)
		if text == nil {
			continue
		}
		if _, err := w.Write(text); err != nil || flush.Flush() != nil {
			return
		}
	}
}
