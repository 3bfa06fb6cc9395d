package kittapitest

import (
	"net/http"
	"time"
)

// subscriberQueue is the number of events that wait for a stream. When it is full,
// the stream loses events and is not told.
const subscriberQueue = 100

// bus distributes events to streams. Server.mu guards it.
type bus struct {
	subscribers map[chan event]bool
}

type event struct {
	source string
	text   string // in the form in which it is sent
}

// publish sends an event to all streams without blocking.
func (b *bus) publish(kind, source string, data object) {
	if len(b.subscribers) == 0 {
		return
	}
	text := "event: " + kind + "\ndata: " + dump(encode(data)) + "\n\n"
	for c := range b.subscribers {
		select {
		case c <- event{source, text}:
		default: // the queue is full
		}
	}
}

func (b *bus) subscribe() chan event {
	c := make(chan event, subscriberQueue)
	if b.subscribers == nil {
		b.subscribers = map[chan event]bool{}
	}
	b.subscribers[c] = true
	return c
}

// stream answers with the events of all, or of one test, agent or campaign. The
// header is sent with the first event or keepalive.
func (c *call) stream() answer {
	return answer{serve: func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		c.s.follow(w, r, c.id)
	}}
}

func (s *Server) follow(w http.ResponseWriter, r *http.Request, filter string) {
	s.mu.Lock()
	events := s.bus.subscribe()
	cut := s.cut
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.bus.subscribers, events)
	}()
	flush := http.NewResponseController(w)
	for {
		text := ": keepalive\n\n"
		timer := time.NewTimer(s.cfg.Keepalive)
		select {
		case e := <-events:
			timer.Stop()
			if filter != "" && e.source != filter {
				continue // like the real server, it delays the keepalive anyway
			}
			text = e.text
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return
		case <-cut:
			timer.Stop()
			panic(http.ErrAbortHandler)
		case <-s.done:
			timer.Stop()
			return
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
	}
}
