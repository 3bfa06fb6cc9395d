package webpage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	maxViewers   = 256              // streams of events at once
	lookEvery    = 5 * time.Second  // between looks at what makes no event, such as a heartbeat
	leastBetween = time.Second      // two looks
	writeTimeout = 30 * time.Second // for a viewer to take one event
)

// getEvents streams what happens as Server-Sent Events until the viewer goes:
//
//	event: change    there is news; what it is comes with the view itself
//	event: gpus      a reading of the GPUs, if the query has gpus=1; see reading
func (p *Page) getEvents(w http.ResponseWriter, r *http.Request) {
	defer p.viewers.Add(-1)
	if p.viewers.Add(1) > maxViewers {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many people look at this page; try again later", http.StatusServiceUnavailable)
		return
	}
	s := newStream(w)
	// What the server's limits allow for a request is too little for one that stays.
	_ = s.control.SetReadDeadline(time.Time{})
	var pumping sync.WaitGroup
	defer pumping.Wait()
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	news := make(chan struct{}, 1)
	events := p.a.Events(ctx)
	pumping.Go(func() {
		for range events {
			select {
			case news <- struct{}{}:
			default:
			}
		}
	})
	// The error says that the viewer is gone, which is no fault.
	_ = p.stream(ctx, s, news, r.URL.Query().Get("gpus") == "1")
}

// stream sends events until ctx is done or the viewer is gone.
func (p *Page) stream(ctx context.Context, s *stream, news <-chan struct{}, gpus bool) error {
	if err := s.send("retry: 2000\n\n"); err != nil {
		return err
	}
	pace := time.NewTicker(leastBetween)
	defer pace.Stop()
	var (
		looked   = time.Now()
		reading  time.Time // the last one that was sent
		isChange bool
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			isChange = true
			continue // with the next tick, together with all that come before it
		case <-pace.C:
		}
		if isChange || time.Since(looked) >= lookEvery {
			isChange, looked = false, time.Now()
			if err := s.send("event: change\ndata:\n\n"); err != nil {
				return err
			}
		}
		if !gpus {
			continue
		}
		p.a.ReadGPUs(ctx)
		for _, each := range p.a.GPUHistory(maxTime(reading, time.Now().Add(-lookEvery))) {
			if err := s.send(fmt.Sprintf("event: gpus\ndata: %s\n\n", appendReading(nil, each))); err != nil {
				return err
			}
			reading = each.Time
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A stream sends Server-Sent Events to one viewer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream; charset=utf-8")
	head.Set("Cache-Control", "no-cache")
	head.Set("X-Accel-Buffering", "no")
	return &stream{w, http.NewResponseController(w)}
}

// send writes text and makes it leave.
func (s *stream) send(text string) error {
	// A writer that knows no deadline can't be stuck on a network.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// getLog streams a job's log, as GET /api/logs/{id} does. The query's after is what a
// Last-Event-ID is, for a browser that begins again by itself.
func (p *Page) getLog(w http.ResponseWriter, r *http.Request) {
	to := p.asAPI(r, "/api/logs/"+url.PathEscape(r.PathValue("id")))
	if after := r.URL.Query().Get("after"); after != "" && to.Header.Get("Last-Event-ID") == "" {
		to.Header.Set("Last-Event-ID", after)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as in getEvents
	p.api.ServeHTTP(w, to)
}

// setBody gives a request a JSON body.
func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/json")
}

// unescape returns the path that its escaped form means.
func unescape(path string) string {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return path // it was escaped by this package
	}
	return plain
}
