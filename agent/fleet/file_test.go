package fleet_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

const plan = `prefix: lab
seed: 7
speed: 0.5
scenario: progress
agents:
  - profile: h100-8
    count: 20
  - name: flaky
    profile: rtx4090
    count: 5
    speed: 0
    scenario: fail-at=latency,exit=2
  - name: spark
    count: 3
    gpu: NVIDIA GB10
    gpus: 1
    arch: arm64
    ram_gb: 120
    environment: dgx_spark
`

func TestReadPlan(t *testing.T) {
	t.Parallel()
	p, err := fleet.ReadPlan(strings.NewReader(plan))
	require.NoError(t, err)
	half, none, one := 0.5, 0.0, 1
	flaky := simulated.Scenario{FailAt: "latency", Exit: 2}
	require.Equal(t, fleet.Plan{
		Prefix: "lab", Seed: 7, Speed: &half, Scenario: simulated.Scenario{Progress: true},
		Groups: []fleet.Group{
			{Count: 20, Hardware: fleet.Hardware{Profile: "h100-8"}},
			{Count: 5, Name: "flaky", Hardware: fleet.Hardware{Profile: "rtx4090"}, Speed: &none, Scenario: &flaky},
			{Count: 3, Name: "spark", Hardware: fleet.Hardware{GPU: "NVIDIA GB10", GPUs: &one, Arch: "arm64", RAMGiB: 120, Environment: "dgx_spark"}},
		},
	}, p)
	f, err := fleet.New(fleet.Config{Server: &agenttest.Server{}, Dir: t.TempDir(), Prefix: p.Prefix, Groups: p.Groups})
	require.NoError(t, err)
	require.Len(t, f.Names(), 28)
	require.Equal(t, "lab-flaky-0001", f.Names()[20])
}

func TestReadPlanFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "has no agents",
		"agents: []":                             "has no agents",
		"agents: [{profil: x}]":                  "line 1: field profil not found",
		"agents:\n- count: many":                 "line 2",
		"agents:\n- count: 1\n  scenario: meh":   "unknown word",
		"agents: [{profile: l4-1}]":              `entry 1, "l4-1": count is 0`,
		"seed: -1":                               "line 1",
		"a: *b":                                  "unknown anchor",
		strings.Repeat("#", fleet.MaxPlan) + "#": "larger than 1024 KiB",
	} {
		_, err := fleet.ReadPlan(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%.60q", text)
	}
}

// Whatever a file holds, reading it and making a fleet of it ends in a fleet or
// an error.
func FuzzReadPlan(f *testing.F) {
	f.Add(plan)
	f.Add("agents: [{count: 3, gpus: -1, gpu: H100}]")
	f.Add("agents: [{count: 1, name: ../x}]\nprefix: ..")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := fleet.ReadPlan(strings.NewReader(text))
		if err != nil {
			return
		}
		for i := range p.Groups {
			p.Groups[i].Count = min(p.Groups[i].Count, 3)
		}
		made, err := fleet.New(fleet.Config{Server: &agenttest.Server{}, Dir: "unused", Prefix: p.Prefix, Groups: p.Groups, Scenario: p.Scenario})
		if err == nil {
			require.NotEmpty(t, made.Names())
			for _, name := range made.Names() {
				require.NotContains(t, name, "/")
			}
		}
	})
}
