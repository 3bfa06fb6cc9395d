package socketproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// An upstream is the container engine.
type upstream struct {
	network, addr string
	transport     *http.Transport
}

// dialLimit is how long a connection to the engine may take.
const dialLimit = 30 * time.Second

// maxAnswer bounds what is read whole of the engine's answers, in bytes.
const maxAnswer = 16 << 20

// address returns the network and address of an engine by its URL.
func address(engine string) (network, addr string, err error) {
	network, addr, ok := strings.Cut(engine, "://")
	if !ok || addr == "" || network != "unix" && network != "tcp" {
		return "", "", fmt.Errorf("the engine's address %q is neither unix:///path nor tcp://host:port", engine)
	}
	return network, strings.TrimSuffix(addr, "/"), nil
}

func newUpstream(engine string) (*upstream, error) {
	network, addr, err := address(engine)
	if err != nil {
		return nil, err
	}
	u := &upstream{network: network, addr: addr}
	u.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return u.dial(ctx) },
		DisableCompression: true, MaxIdleConns: 4, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
	}
	return u, nil
}

func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, u.network, u.addr)
}

// A call is a request to the engine.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any // sent as JSON; nil for none
}

// request returns the call as HTTP has it.
func (c call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	to := url.URL{Scheme: "http", Host: "docker", Path: c.path, RawQuery: c.query.Encode()}
	r, err := http.NewRequestWithContext(ctx, c.method, to.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	if c.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// do returns the engine's answer, whose body the caller closes.
func (u *upstream) do(ctx context.Context, c call) (*http.Response, error) {
	r, err := c.request(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := u.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("the container engine does not answer: %w", err)
	}
	return answer, nil
}

// get reads the engine's JSON at a path into v. found is false if the engine says that
// there is nothing.
func (u *upstream) get(ctx context.Context, path string, query url.Values, v any) (found bool, err error) {
	answer, err := u.do(ctx, call{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return false, nil
	}
	text, err := readAll(answer.Body, maxAnswer)
	switch {
	case err != nil:
		return false, fmt.Errorf("read the container engine's answer: %w", err)
	case answer.StatusCode != http.StatusOK:
		return false, fmt.Errorf("the container engine answers %s: %.500s", answer.Status, text)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return false, fmt.Errorf("the container engine's answer can't be read: %w", err)
	}
	return true, nil
}

// readAll reads up to limit bytes; more is an error.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return text, err
}
