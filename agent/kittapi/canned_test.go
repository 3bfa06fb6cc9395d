package kittapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// canned is a transport with one answer.
type canned struct {
	status int
	kind   string
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: c.status,
		Header:     http.Header{"Content-Type": {c.kind}},
		Body:       io.NopCloser(bytes.NewReader(c.body)),
		Request:    r,
	}, nil
}

func isError(err, target error) bool { return errors.Is(err, target) }

func asError[E error](err error, target *E) bool { return errors.As(err, target) }
