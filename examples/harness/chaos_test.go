package harness_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A third of all requests goes wrong, each in another way, and yet every line
// arrives once and in order.
func TestNoLineIsLostInChaos(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			server, err := kittapitest.NewInMemory(kittapitest.Config{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, server.Close()) })
			server.AddAgent("gpu-01")
			test, _, err := server.Launch("gpu-01", "Qwen2.5-7B")
			require.NoError(t, err)

			server.SetFault(oneOf(
				kittapitest.Sometimes(seed, 0.08, kittapitest.Fault{Reset: true}),
				kittapitest.Sometimes(seed+1, 0.08, kittapitest.Fault{Status: 502}),
				kittapitest.Sometimes(seed+2, 0.08, kittapitest.Fault{Hang: true}),
				kittapitest.Sometimes(seed+3, 0.08, kittapitest.Fault{Delay: 5 * time.Second}),
			))
			startAgent(t, server.URL, server.Transport(), agent.Config{
				Name: "gpu-01", Runner: &runnertest.Fake{Lines: lines, Delay: time.Second},
			})
			require.NoError(t, server.WaitForStatus(within(t, 24*time.Hour), test, "completed"))
			arrived := slices.DeleteFunc(server.Lines(test), func(line string) bool { return !strings.HasPrefix(line, "line ") })
			require.Equal(t, lines, arrived)
			require.Empty(t, server.Breaches())
		})
	}
}

// oneOf lets the first fault happen that any of the deciders wants.
func oneOf(deciders ...func(*http.Request) kittapitest.Fault) func(*http.Request) kittapitest.Fault {
	return func(r *http.Request) kittapitest.Fault {
		for _, decide := range deciders {
			if f := decide(r); f != (kittapitest.Fault{}) {
				return f
			}
		}
		return kittapitest.Fault{}
	}
}
