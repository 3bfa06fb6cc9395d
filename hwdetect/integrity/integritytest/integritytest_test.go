package integritytest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
)

func TestSourcesKeepTheContract(t *testing.T) {
	t.Parallel()
	require.NoError(t, integritytest.TestSource(t.Context(), &integritytest.Fake{}))
	require.NoError(t, integritytest.TestSource(t.Context(), integrity.NewMachine(integrity.MachineConfig{})))
	h100, _ := hwdetect.Profile("h100-8")
	gpus := hwdetect.Static{Machine: h100}
	machine := integrity.NewMachine(integrity.MachineConfig{Telemetry: gpus, Counters: gpus})
	require.NoError(t, integritytest.TestSource(t.Context(), machine))
}

func TestContractFindsViolations(t *testing.T) {
	t.Parallel()
	var fake integritytest.Fake
	fake.SetState(integrity.State{Time: time.Unix(1, 0), Gaps: []integrity.Gap{{What: "x"}}}, nil)
	fake.SetSample(integrity.Sample{GPUs: make([]hwdetect.GPUTelemetry, 1)}, errors.New("no"))
	err := integritytest.TestSource(t.Context(), &fake)
	require.ErrorContains(t, err, "1970")
	require.ErrorContains(t, err, "no name or no reason")
	require.ErrorContains(t, err, "readings of GPUs and the error no")
	fake.SetState(integrity.State{}, errors.New("broken"))
	require.ErrorContains(t, integritytest.TestSource(t.Context(), &fake), "State: broken")
}

func TestRulesKeepTheContract(t *testing.T) {
	t.Parallel()
	h100, _ := hwdetect.Profile("h100-8")
	machine := integrity.NewMachine(integrity.MachineConfig{Counters: hwdetect.Static{Machine: h100}})
	state, err := machine.State(t.Context())
	require.NoError(t, err)
	end := state
	end.Time = end.Time.Add(time.Minute)
	e := integrity.Evidence{Start: state, End: &end}
	for _, j := range integrity.Judges(integrity.DefaultRules()) {
		require.NoError(t, integritytest.TestJudge(j, e))
	}
	bad := integrity.Rule{Figures: func(*integrity.Evidence) []integrity.Figure {
		return []integrity.Figure{{Value: 1, AtMost: integrity.Info}}
	}}
	err = integritytest.TestJudge(bad, e)
	require.ErrorContains(t, err, "no code or no text")
	require.ErrorContains(t, err, "without evidence")
}

func TestFakeHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fake integritytest.Fake
		fake.SetHang(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := fake.Sample(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
		fake.SetHang(false)
		_, err = fake.State(t.Context())
		require.NoError(t, err)
		state, sample := fake.Calls()
		require.Equal(t, 1, state)
		require.Equal(t, 1, sample)
	})
}

func Example() {
	var fake integritytest.Fake
	fake.SetSample(integrity.Sample{}, errors.New("GPU 3 does not answer"))

	_, err := fake.Sample(context.Background())
	fmt.Println(err)
	// Output: GPU 3 does not answer
}
