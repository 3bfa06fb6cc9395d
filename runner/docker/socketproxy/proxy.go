package socketproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// A Proxy answers the requests of one job's benchmark. It is an [http.Handler].
type Proxy struct {
	policy Policy
	engine *upstream
	denied func(text string) // called with what was refused
	slots  chan struct{}     // held by each request
}

// New returns the Proxy of a policy. denied is called with the text of each refusal,
// concurrently; nil means nobody wants to know.
func New(policy Policy, denied func(text string)) (*Proxy, error) {
	if policy.Version == 0 {
		policy.Version = policyVersion
	}
	if err := policy.check(); err != nil {
		return nil, fmt.Errorf("socketproxy: %w", err)
	}
	engine, err := newUpstream(policy.Engine)
	if err != nil {
		return nil, err
	}
	if denied == nil {
		denied = func(string) {}
	}
	return &Proxy{policy: policy, engine: engine, denied: denied, slots: make(chan struct{}, maxRequests)}, nil
}

// Limits of what a benchmark sends.
const (
	maxRequests = 128       // at the same time
	maxBody     = 1 << 20   // bytes
	maxQuery    = 16 << 10  // bytes
	maxContext  = 256 << 20 // bytes of a build context that are read before it is refused
)

// Close closes the connections to the engine that are not in use.
func (p *Proxy) Close() error {
	p.engine.transport.CloseIdleConnections()
	return nil
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		answer(w, &refusal{http.StatusServiceUnavailable, "too many requests at the same time"})
		return
	}
	path, rawQuery, _ := strings.Cut(r.RequestURI, "?")
	route, err := parseRoute(r.Method, path)
	var query url.Values
	if err == nil {
		query, err = parseQuery(rawQuery)
	}
	if err == nil {
		err = p.serve(w, r, route, query)
	}
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*refusal](err); ok && e.status == http.StatusForbidden {
		p.denied(e.text)
	}
	answer(w, err)
}

func parseQuery(text string) (url.Values, error) {
	if len(text) > maxQuery {
		return nil, invalid("the query has more than %d bytes", maxQuery)
	}
	query, err := url.ParseQuery(text)
	if err != nil {
		return nil, invalid("the query can't be read: %v", err)
	}
	return query, nil
}

// serve answers a request, or returns why it is refused.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, route route, query url.Values) error {
	ctx := r.Context()
	switch route.action {
	case actPing:
		return p.forward(ctx, w, call{method: r.Method, path: route.version + "/_ping"})
	case actVersion:
		return p.forward(ctx, w, call{method: r.Method, path: route.version + "/version"})
	case actInfo:
		return p.info(ctx, w, route)
	case actImageInspect:
		return p.inspectImage(ctx, w, route)
	case actPull:
		return p.pull(ctx, w, r, route, query)
	case actBuild:
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxContext)) // a client that still writes doesn't read the answer
		return refuseBuild(printableName(query.Get("t")))
	case actCreate:
		return p.create(ctx, w, r, route, query)
	case actList:
		return p.list(ctx, w, route, query)
	case actExecStart:
		return p.startExec(w, r, route)
	case actExecInspect:
		return p.inspectExec(ctx, w, route)
	case actExecCreate:
		return p.createExec(ctx, w, r, route)
	}
	return p.container(ctx, w, r.Method, route, query)
}

// forward passes the engine's answer to a call on.
func (p *Proxy) forward(ctx context.Context, w http.ResponseWriter, c call) error {
	answer, err := p.engine.do(ctx, c)
	if err != nil {
		return err
	}
	relay(w, answer)
	return nil
}

// decode reads a request's body into v, and nothing else of it is ever used.
func decode(r *http.Request, v any) error {
	text, err := readAll(r.Body, maxBody)
	if err != nil {
		return invalid("the request's body can't be read: %v", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return invalid("the request's body is not understood: %v", err)
	}
	return nil
}

// createLimit is how long the engine may take to create a container, which may be the
// first of a large image.
const createLimit = 2 * time.Minute

// create creates a container. The engine does so even if the client has gone, so its
// answer is waited for: until then nobody could find the container.
func (p *Proxy) create(ctx context.Context, w http.ResponseWriter, r *http.Request, route route, query url.Values) error {
	var asked container.CreateRequest
	if err := decode(r, &asked); err != nil {
		return err
	}
	network, err := p.network(ctx, route)
	if err == nil {
		err = p.checkCount(ctx, route)
	}
	if err != nil {
		return err
	}
	c, err := p.policy.rewrite(query, asked, network)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createLimit)
	defer cancel()
	return p.forward(ctx, w, call{method: http.MethodPost, path: route.version + "/containers/create", query: c.query, body: c.body})
}
