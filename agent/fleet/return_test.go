package fleet_test

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

var returning = flag.Int("agents", 300, "agents of TestReturnOfTheServer; 1000 take a while under -race")

// A server that comes back after ten minutes gets, in its busiest ten seconds, at
// most twice the requests of any other ten: agents that wait for it don't all
// come at once, nor all ask at once for what they missed.
func TestReturnOfTheServer(t *testing.T) {
	t.Parallel()
	const window = 10 // seconds
	agents := *returning
	synctest.Test(t, func(t *testing.T) {
		server, client := bubble(t, kittapitest.Config{KeepRequests: 1})
		requests := func() (n int) {
			for _, calls := range server.Requests() {
				n += calls
			}
			return n
		}
		f, stop := run(t, fleet.Config{
			Server: client,
			Groups: []fleet.Group{{Count: agents, Hardware: fleet.Hardware{Profile: "l4-1"}}},
		})
		time.Sleep(2 * time.Minute) // the start is forgotten
		before := requests()
		time.Sleep(10 * time.Minute)
		steady := float64(requests()-before) / 600

		server.SetDown(true)
		time.Sleep(10 * time.Minute)
		require.Zero(t, f.Stats().Online)
		server.SetDown(false)
		var seconds [600]int
		for i := range seconds {
			before := requests()
			time.Sleep(time.Second)
			seconds[i] = requests() - before
			if i == 30 {
				require.EqualValues(t, agents, f.Stats().Online)
			}
		}
		busiest := 0
		for i := range len(seconds) - window {
			sum := 0
			for _, n := range seconds[i : i+window] {
				sum += n
			}
			busiest = max(busiest, sum)
		}
		peak := float64(busiest) / window
		t.Logf("%d agents: %.1f requests/s at all times, %.1f/s at most after the return: %.2f times as many", agents, steady, peak, peak/steady)
		require.LessOrEqual(t, peak, 2*steady)
		stop()
	})
}
