package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Timings of Follow. The agent sends a comment every 30 s.
const (
	silence   = 90 * time.Second // after which a silent connection counts as broken
	giveUp    = time.Minute      // without an answer of the agent
	firstWait = 200 * time.Millisecond
	longest   = 5 * time.Second
)

// An End says how a job ended.
type End struct {
	Status string `json:"status"`
	Error  string `json:"error"`
}

// ErrNoResume is matched by the error of a Follow whose connection broke and
// cannot be resumed: the agent, a Python one, numbers no lines.
var ErrNoResume = errors.New("the stream broke off, and this agent cannot go on with it where it ended")

// Follow calls emit with every event of a job's log, from the first line on. It
// returns when the job has ended, when emit returns an error, when ctx is done,
// or when no agent has answered for a minute. After a broken connection, as when
// the agent restarts, it continues after the last event. id is a command's or a
// test's.
func (c *Client) Follow(ctx context.Context, id string, emit func(Event) error) (End, error) {
	f := &follower{client: c, path: "/api/logs/" + url.PathEscape(id), emit: emit}
	var lost time.Time // when the agent last answered
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
		case f.emitErr != nil:
			return End{}, f.emitErr
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
	emitErr error  // what emit returned
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
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxEventLine)) // its text is only a help
		return End{}, f.client.apiError(resp.StatusCode, body)
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
			_ = json.Unmarshal(event.Data, &end) // without its text it has ended all the same
			return end, nil
		}
		if err := f.emit(event); err != nil {
			f.emitErr = err
			return End{}, err
		}
	}
}
