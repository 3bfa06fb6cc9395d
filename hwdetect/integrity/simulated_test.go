package integrity_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
)

func TestSimulatedFaults(t *testing.T) {
	t.Parallel()
	for want, faults := range map[string]integrity.Faults{
		"Machine: valid": {},
		"Machine: INVALID - hardware thermal slowdown for 7% of 100 s on GPU 7":                  {Throttled: true},
		"Machine: INVALID - process 4242 (train of uid 1000) used up to 30% of the SMs on GPU 0": {ForeignProcess: true},
		"Machine: WARNING - the clock was set by 5s":                                             {ClockDrift: true},
		"Machine: INVALID - 1 uncorrected memory errors on GPU 0":                                {ECCError: true},
		"Machine: unjudged - the GPUs' counters could not be read":                               {HungGPU: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			h100, _ := hwdetect.Profile("h100-8")
			machine := integrity.NewSimulated(integrity.SimulatedConfig{Machine: h100, Faults: faults})
			if !faults.ClockDrift && !faults.HungGPU {
				require.NoError(t, integritytest.TestSource(t.Context(), machine))
			}
			rec, err := newRecorder(t, integrity.RecorderConfig{Source: machine}).Begin(t.Context(), integrity.Run{
				Dir: t.TempDir(), Foreign: func(_ context.Context, all []hwdetect.GPUProcess) ([]hwdetect.GPUProcess, error) { return all, nil },
			})
			require.NoError(t, err)
			<-time.After(100 * time.Second)
			report, err := rec.End(t.Context(), time.Time{}, nil)
			require.NoError(t, err)
			require.Equal(t, want, report.Verdict.Line())
		})
	}
}
