package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Timings of Follow. The agent sends a comment every 30 s; a stream that is
// silent for longer than silence is taken for dead.
const (
	silence   = 90 * time.Second
	giveUp    = time.Minute // without a sign of the agent
	firstWait = 200 * time.Millisecond
	longest   = 5 * time.Second
)

// maxEventLine is the longest line of an event stream that is read, in bytes. A
// log line has at most 64 KiB, and JSON takes up to six bytes for one.
const maxEventLine = 1 << 20

// An Event is one event of a job's log.
type Event struct {
	ID   string // where to go on after it; empty if the agent sends none
	Type string // log, end, or another word that may be passed over
	Data json.RawMessage
}

// Line returns the text of a log event.
func (e Event) Line() string {
	var data struct {
		Line string `json:"line"`
	}
	_ = json.Unmarshal(e.Data, &data) // what can't be read is an empty line
	return data.Line
}

// An End says how a job ended.
type End struct {
	Status string `json:"status"`
	Error  string `json:"error"`
}

// ErrNoResume is matched by the error of a stream that broke and cannot be gone
// on with: the agent, an old one, numbers no lines.
var ErrNoResume = errors.New("the stream broke off, and this agent cannot go on with it where it ended")

// Follow hands every event of a job's log to emit, from the first line on, and
// returns when the job has ended, emit returned an error, ctx is done or no
// agent was to be found for a minute. A stream that breaks off, as when the
// agent restarts, is gone on with after the last event. id is a command's or a
// test's.
func (c *Client) Follow(ctx context.Context, id string, emit func(Event) error) (End, error) {
	f := &follower{client: c, path: "/api/logs/" + url.PathEscape(id), emit: emit}
	var lost time.Time // when the agent was last seen
	wait := firstWait
	for {
		f.alive = false
		end, err := f.once(ctx)
		var api *APIError
		switch {
		case err == nil:
			return end, nil
		case ctx.Err() != nil:
			return End{}, ctx.Err()
		case f.refused != nil:
			return End{}, f.refused
		case errors.As(err, &api) && api.Status < 500:
			return End{}, err
		case errors.Is(err, ErrNotRunning) && !f.began:
			return End{}, err
		case f.began && f.last == "":
			return End{}, ErrNoResume
		}
		if f.alive || lost.IsZero() {
			lost, wait = time.Now(), firstWait
		}
		if time.Since(lost) > giveUp {
			return End{}, err
		}
		select {
		case <-ctx.Done():
			return End{}, ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, longest)
		}
	}
}

// follower is one call of Follow.
type follower struct {
	client *Client
	path   string
	emit   func(Event) error

	last    string // id of the last event
	began   bool   // whether any event came
	alive   bool   // whether this connection brought anything
	refused error  // what emit returned
}

// once follows the stream until it ends.
func (f *follower) once(ctx context.Context) (End, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(silence, func() { cancel(fmt.Errorf("no sign of the agent for %s", silence)) })
	defer dead.Stop()

	header := http.Header{"Accept": {"text/event-stream"}}
	if f.last != "" {
		header.Set("Last-Event-ID", f.last)
	}
	resp, err := f.client.do(ctx, http.MethodGet, f.path, nil, header)
	if err != nil {
		return End{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxEventLine)) // its text is a help, no more
		return End{}, apiError(resp.StatusCode, body)
	}
	f.alive = true
	events := newEventReader(resp.Body, func() { dead.Reset(silence) })
	for {
		event, err := events.next()
		if err != nil {
			return End{}, f.client.explain(err)
		}
		f.began = true
		if event.ID != "" {
			f.last = event.ID
		}
		if event.Type == "end" {
			var end End
			_ = json.Unmarshal(event.Data, &end) // that it ended is what counts
			return end, nil
		}
		if err := f.emit(event); err != nil {
			f.refused = err
			return End{}, err
		}
	}
}

// eventReader reads Server-Sent Events (HTML standard, section 9.2.6).
type eventReader struct {
	lines *bufio.Scanner
	sign  func() // called for each line
}

func newEventReader(r io.Reader, sign func()) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEventLine)
	return &eventReader{lines: lines, sign: sign}
}

// next returns the next event. At the end of the stream, an event that has not
// ended counts for nothing and the error is io.ErrUnexpectedEOF.
func (r *eventReader) next() (Event, error) {
	event := Event{Type: "message"}
	var data []string
	size := 0
	for r.lines.Scan() {
		r.sign()
		line := r.lines.Text()
		if line == "" {
			if data == nil {
				event = Event{Type: "message"}
				continue
			}
			event.Data = json.RawMessage(strings.Join(data, "\n"))
			return event, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event.Type = value
		case "id":
			event.ID = value
		case "data":
			if size += len(value); size > maxEventLine {
				return Event{}, bufio.ErrTooLong
			}
			data = append(data, value)
		}
	}
	if err := r.lines.Err(); err != nil {
		return Event{}, err
	}
	return Event{}, io.ErrUnexpectedEOF
}
