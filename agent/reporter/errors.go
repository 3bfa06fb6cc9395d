package reporter

import (
	"errors"
	"fmt"
	"time"
)

// A RejectedError is the server's own final answer to a request: sending the same
// again does not help.
type RejectedError struct {
	Code    int    // HTTP status: 400, 401, 403, 404
	Message string // the server's text
}

// Error returns the server's text.
func (e *RejectedError) Error() string { return e.Message }

// Rejected returns true: it tells a rejection from an outage where this package is
// not imported, as in package heartbeat.
func (e *RejectedError) Rejected() bool { return true }

// ErrServerFailed is matched by the error of a request at which the server failed
// (HTTP 500). The same report, sent again and again, may be the reason.
var ErrServerFailed = errors.New("the server failed at this request")

// A BlockedError is an answer that something between the agent and the server gave
// in its place, such as a proxy that limits the size of requests or a firewall that
// objects to their content. If other requests get through meanwhile, it concerns
// this request alone, and the agent gives up on it; otherwise it is an outage.
type BlockedError struct {
	Code int   // HTTP status
	Err  error // what it answered
}

// Error returns the text of the underlying error.
func (e *BlockedError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *BlockedError) Unwrap() error { return e.Err }

// A RetryAfterError is an outage for which the server named a time.
type RetryAfterError struct {
	After time.Duration // until the next try, of which the agent waits 10 minutes at most
	Err   error         // the underlying error; may be nil
}

// Error returns the text of the underlying error, or that the server wants the
// request later.
func (e *RetryAfterError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("the server asks to come back in %s", e.After)
	}
	return e.Err.Error()
}

// Unwrap returns the underlying error.
func (e *RetryAfterError) Unwrap() error { return e.Err }
