package fleet_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// inMemory carries requests to a server without a network, so that they work
// inside a testing/synctest bubble.
type inMemory struct{ server *kittapitest.Server }

var errReset = errors.New("connection reset by peer")

func (m inMemory) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	defer func() {
		if p := recover(); p != nil {
			if cut, ok := p.(error); !ok || !errors.Is(cut, http.ErrAbortHandler) {
				panic(p)
			}
			resp, err = nil, errReset
		}
	}()
	w := httptest.NewRecorder()
	m.server.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

// bubble returns a server and a client of it that need no network.
func bubble(t testing.TB, cfg kittapitest.Config) (*kittapitest.Server, *kittapi.Client) {
	t.Helper()
	server := kittapitest.New(cfg)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	client, err := kittapi.New(kittapi.Config{URL: "http://kitt.test", Token: "fleet", Transport: inMemory{server}})
	require.NoError(t, err)
	return server, client
}
