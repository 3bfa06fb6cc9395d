package kittapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/reporter"
)

// Limits of answers, in bytes unless a unit is given.
const (
	maxAnswer     = 4 << 20   // any answer except a list
	maxList       = 64 << 20  // a page of results or tests
	maxLog        = 256 << 20 // the log of a test, which has no pages
	maxRetryAfter = 10 * time.Minute
)

// A request is one call of the API.
type request struct {
	method string
	path   string // below the API's base, with escaped parts
	query  url.Values
	key    key
	body   any   // encoded as JSON; nil for none
	limit  int64 // of the answer, in bytes; 0 means maxAnswer

	encoded *encodedBody // used instead of body if it is set
	date    *time.Time   // set to the server's time of a 2xx, as its Date header says; nil for no use

	// answer parses the body of a 2xx. Its error means that the body does not
	// have the API's form, so that another program has answered.
	answer func(body []byte) error
}

// parsedInto returns a function for request.answer that sets v to what parse
// returns.
func parsedInto[T any](v *T, parse func([]byte) (T, error)) func([]byte) error {
	return func(body []byte) (err error) {
		*v, err = parse(body)
		return err
	}
}

// do sends the request. Its error is one of those in the package's table.
func (c *Client) do(ctx context.Context, r request) error {
	err := c.exchange(ctx, r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	return nil
}

// exchange sends the request, and once more if the tokens were changed.
func (c *Client) exchange(ctx context.Context, r request) error {
	used := c.tokens.Load()
	err := c.exchangeOnce(ctx, r)
	if err != nil && ctx.Err() == nil && c.readTokens(err, used) {
		err = c.exchangeOnce(ctx, r)
	}
	return err
}

// exchangeOnce sends the request with the client's time limit.
func (c *Client) exchangeOnce(ctx context.Context, r request) error {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	err := c.send(limited, r)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("no answer within %s", c.cfg.Timeout)
	}
	return err
}

func (c *Client) send(ctx context.Context, r request) error {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// The caller adds the address, without the query.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return unreachable(err)
	}
	defer resp.Body.Close()
	limit := r.limit
	if limit == 0 {
		limit = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case resp.StatusCode/100 != 2:
		// The status is enough, even if the body is incomplete.
	case err != nil:
		return fmt.Errorf("incomplete answer: %w", err)
	case int64(len(body)) > limit:
		return fmt.Errorf("answer is larger than %d MiB", limit>>20)
	default:
		if r.date != nil {
			*r.date, _ = http.ParseTime(resp.Header.Get("Date")) // zero without one
		}
		if err := r.answer(body); err != nil {
			err = fmt.Errorf("%s is not an answer of a KITT server (%s): %w", resp.Status, contentType(resp), err)
			if contentType(resp) != "application/json" { // JSON may be the server's own, cut short
				err = &reporter.BlockedError{Code: resp.StatusCode, Err: err}
			}
			return err
		}
		return nil
	}
	return c.fault(r, resp, body)
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	address := c.base + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	body := r.encoded
	if r.body != nil {
		text, err := encode(r.body)
		if err != nil {
			return nil, err
		}
		body = &encodedBody{head: text}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = body.length()
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body.reader()), nil }
		req.Body, _ = req.GetBody()
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if token := c.token(r.key); token != "" {
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	return req, nil
}

// An encodedBody is a body that is already JSON: data between two short texts.
type encodedBody struct {
	head, tail []byte
	data       io.ReaderAt
	size       int64 // of data, in bytes
}

func (b *encodedBody) length() int64 { return int64(len(b.head)) + b.size + int64(len(b.tail)) }

// reader returns a reader of the body from its start.
func (b *encodedBody) reader() io.Reader {
	if b.size == 0 {
		return bytes.NewReader(b.head)
	}
	return io.MultiReader(bytes.NewReader(b.head), io.NewSectionReader(b.data, 0, b.size), bytes.NewReader(b.tail))
}

// encode returns v as JSON. The result is always valid UTF-8 and never has a lone
// surrogate, on which the server fails.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return b.Bytes(), nil
}

// fault returns the error for an answer that is not a success.
func (c *Client) fault(r request, resp *http.Response, body []byte) error {
	text, own := apiError(body)
	var err error
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized && own:
		err = fmt.Errorf("%w: %s: %s", ErrUnauthorized, printable(text), c.unauthorized(r.key))
	case status == http.StatusUnauthorized:
		err = fmt.Errorf("%w: %s, but not from the KITT server: %s", ErrUnauthorized, resp.Status, c.unauthorized(noKey))
	case own && (status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotFound):
		return c.rejected(r.key, status, text)
	case status == http.StatusInternalServerError && own:
		err = fmt.Errorf("%w: %s", reporter.ErrServerFailed, printable(text))
	case status == http.StatusInternalServerError:
		err = reporter.ErrServerFailed
	case status/100 == 3:
		err = fmt.Errorf("%s: the server redirects to %q; set server_url to that address", resp.Status, printable(resp.Header.Get("Location")))
	case status == http.StatusNotFound:
		err = fmt.Errorf("%w: %s (%s)", errNoRoute, resp.Status, contentType(resp))
	default:
		err = fmt.Errorf("%s (%s)", resp.Status, contentType(resp))
	}
	if blocks(resp.StatusCode) {
		err = &reporter.BlockedError{Code: resp.StatusCode, Err: err}
	}
	if after, ok := retryAfter(resp.Header); ok {
		return &reporter.RetryAfterError{After: after, Err: err}
	}
	return err
}

// blocks reports whether a status that is not the server's own is about the request
// itself: a 4xx, unless it asks for a login or for patience.
func blocks(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status/100 == 4
}

// apiError returns the text of the API's error object, and whether body is one: an
// object with the single key "error".
func apiError(body []byte) (string, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || len(fields) != 1 {
		return "", false
	}
	var text *string
	if json.Unmarshal(fields["error"], &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}

// retryAfter returns the time that the server asks clients to wait, at most
// maxRetryAfter. The header has seconds or a date (RFC 9110, 10.2.3), which is
// compared with the server's clock.
func retryAfter(h http.Header) (time.Duration, bool) {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter), true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}

func contentType(resp *http.Response) string {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return "unknown content type"
	}
	return kind
}

// segment returns id as one part of a path. It rejects an id that cannot be one,
// because the server would reject it too.
func segment(id string) (string, error) {
	if id == "" || id == "." || id == ".." || strings.Contains(id, "/") {
		return "", &reporter.RejectedError{
			Code:    http.StatusNotFound,
			Message: fmt.Sprintf("%q cannot be part of a path of the server's API", printable(id)),
		}
	}
	return url.PathEscape(id), nil
}
