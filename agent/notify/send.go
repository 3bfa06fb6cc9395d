package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	sendTimeout = 10 * time.Second // for one request
	firstRetry  = 5 * time.Second  // doubles with each failure, up to
	lastRetry   = 10 * time.Minute
	stopGrace   = 2 * time.Second // for a request that is on its way when Run is to end
	maxAsked    = time.Hour       // that a receiver's Retry-After is heeded
	maxAge      = 72 * time.Hour
	maxAnswer   = 4 << 10 // bytes that are read of an answer
	maxReason   = 200     // characters that are shown of it
)

// A refusal is an answer of the receiver other than success.
type refusal struct {
	status int
	text   string
	wait   time.Duration // that the receiver asked for; 0 for none
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the receiver answered HTTP %d", r.status)
	if r.text != "" {
		text += ": " + r.text
	}
	return text
}

// final reports whether the same notification would be refused again.
func (r *refusal) final() bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// sendAll sends what waits, in order, until ctx is done.
func (n *Notifier) sendAll(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		added := n.added.Wait()
		note, missed := n.state.first()
		if note == nil {
			select {
			case <-added:
			case <-ctx.Done():
			}
			continue
		}
		if wait := n.state.quota(n.cfg.PerHour, time.Now()); wait > 0 {
			_ = base.Wait(ctx, wait)
			continue
		}
		if time.Since(note.Time) > maxAge {
			n.log.Warn("notification dropped: the receiver did not accept it for three days", "event", note.Event, "notification", note.ID)
			n.state.done(note, missed, false)
			continue
		}
		sending, release := base.Outlast(ctx, stopGrace)
		err := n.send(sending, note, missed)
		release()
		if err != nil && ctx.Err() != nil {
			return
		}
		var refused *refusal
		switch {
		case err == nil:
			failures = 0
			n.setFailing("")
			n.state.done(note, missed, true)
		case errors.As(err, &refused) && refused.final():
			n.log.Warn("notification dropped: the receiver rejects it", "event", note.Event, "notification", note.ID, "err", err)
			n.state.done(note, missed, false)
		default:
			failures++
			n.setFailing(err.Error())
			_ = base.Wait(ctx, pause(failures, refused))
		}
	}
}

// pause returns how long to wait after so many failures in a row, varied by a quarter.
func pause(failures int, refused *refusal) time.Duration {
	if refused != nil && refused.wait > 0 {
		return min(refused.wait, maxAsked)
	}
	d := min(firstRetry<<min(failures-1, 20), lastRetry)
	return d - d/8 + rand.N(d/4)
}

// send posts one notification. Its error does not show the URL.
func (n *Notifier) send(ctx context.Context, note *Notification, missed int) error {
	sent := *note
	sent.Missed = missed
	body, kind, err := n.cfg.Format.encode(sent)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.cfg.URL.Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is not one that a request can be made to")
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "kitt-agent")
	if err := sign(req.Header, n.cfg.Key, note.ID, time.Now(), body); err != nil {
		return err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return errors.New(n.secrets.Text(reasonOf(err)))
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	return &refusal{
		status: resp.StatusCode,
		text:   base.Printable(n.secrets.Text(strings.TrimSpace(string(text))), maxReason),
		wait:   retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

// reasonOf returns why a request failed, without its URL.
func reasonOf(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return fmt.Sprintf("the receiver did not answer within %s", sendTimeout)
		}
		err = u.Err
	}
	return err.Error()
}

// retryAfter returns how long a Retry-After header asks to wait, 0 for none (RFC 9110,
// section 10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(text); err == nil && s > 0 {
		return time.Duration(min(s, int(maxAsked/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil && t.After(now) {
		return min(t.Sub(now), maxAsked)
	}
	return 0
}

// signingKey returns the bytes of a key; see Config.Key.
func signingKey(key agent.Secret) ([]byte, error) {
	text, encoded := strings.CutPrefix(key.Reveal(), "whsec_")
	if !encoded {
		return []byte(text), nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("what follows whsec_ is not base64")
	}
	return raw, nil
}

// sign sets the headers of Standard Webhooks 1.0.0. Without a key there is no signature.
func sign(header http.Header, key agent.Secret, id string, at time.Time, body []byte) error {
	stamp := strconv.FormatInt(at.Unix(), 10)
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", stamp)
	if key == "" {
		return nil
	}
	raw, err := signingKey(key)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, raw)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return nil
}
