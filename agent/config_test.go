package agent_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

func TestNewNamesEachFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := agent.New(agent.Config{})
	for _, want := range []string{"Name is empty", "Dir is empty", "Server is missing", "Runner is missing"} {
		require.ErrorContains(t, err, want)
	}
	_, err = agent.New(agent.Config{
		Name: "a/b", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs},
		TLS:               &tls.Config{},
		Port:              70_000,
		Settings:          agent.Settings{ModelDir: "models", ShareSource: "nas", Interval: 10500 * time.Millisecond},
		GPUs:              "some",
		AllowedImages:     []string{"["},
		MaxConcurrentJobs: 1025,
		StopGrace:         -time.Second,
		MaxJobDuration:    -time.Second,
		DrainTimeout:      -time.Second,
		Keep:              agent.Retention{MaxAge: -time.Hour, MaxBytes: -1},
	})
	for _, want := range []string{
		"agent: ", `Name "a/b" has a slash`, "TLS has no certificate", "Port is 70000", `Settings.ModelDir "models"`,
		`Settings.ShareSource "nas"`, "Settings.Interval 10.5s", `GPUs is "some"`, `AllowedImages: "["`, "MaxConcurrentJobs is 1025",
		"StopGrace is -1s", "MaxJobDuration is -1s", "DrainTimeout is -1s", "Keep.MaxAge is -1h0m0s", "Keep.MaxBytes is -1",
	} {
		require.ErrorContains(t, err, want)
	}
}
