package kittapitest_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func TestInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := kittapitest.NewInMemory(kittapitest.Config{})
		require.NoError(t, err)
		defer s.Close()
		memory := &http.Client{Transport: s.Transport(), Timeout: time.Minute}
		post := func() (string, error) {
			resp, err := memory.Post(s.URL+"/api/v1/agents/register", "application/json", strings.NewReader(`{"name":"a","hostname":"h"}`))
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return string(text), err
		}
		text, err := post()
		require.NoError(t, err)
		require.Contains(t, text, "agent_id")

		began := time.Now()
		s.SetFault(kittapitest.Always(kittapitest.Fault{Hang: true}))
		_, err = post()
		require.True(t, os.IsTimeout(err), "%v", err)
		require.Equal(t, time.Minute, time.Since(began), "and no time at all passed")
		for _, f := range []kittapitest.Fault{{Reset: true}, {CutAnswer: true}, {CutAfter: 3}} {
			s.SetFault(kittapitest.Always(f))
			_, err = post()
			require.Error(t, err)
		}
		s.SetFault(nil)
		s.SetDown(true)
		_, err = post()
		require.Error(t, err)
		s.SetDown(false)
		_, err = post()
		require.NoError(t, err)

		require.NoError(t, s.Close())
		_, err = post()
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestOnlyAServerInMemoryIsReachedThere(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	_, err := (&http.Client{Transport: s.Transport()}).Get(s.URL)
	require.ErrorContains(t, err, "only a server of NewInMemory")
	_, err = kittapitest.NewInMemory(kittapitest.Config{TestAgents: simulated.Config{Speed: -1}})
	require.ErrorContains(t, err, "TestAgents")
}
