package kittapitest

import (
	"net/http"
	"time"
)

// subscriberQueue is how many events a stream falls behind before it loses
// some, without being told.
const subscriberQueue = 100

// bus hands events to streams. The server's lock guards it.
type bus struct {
	subscribers map[chan event]bool
}

type event struct {
	source string
	text   string // as it is sent
}

// publish hands an event to all streams.
func (b *bus) publish(kind, source string, data *object) {
	if len(b.subscribers) == 0 {
		return
	}
	text := "event: " + kind + "\ndata: " + string(dumpStyle.write(nil, data)) + "\n\n"
	for c := range b.subscribers {
		select {
		case c <- event{source, text}:
		default: // the stream is too slow and loses it
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

// stream answers with events: all, or those of one test, agent or campaign. Its
// head comes with the first thing that it has to say.
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
				continue // and yet it holds back the keepalive
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
