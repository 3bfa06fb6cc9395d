package hwdetect

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Without NVML, nvidia-smi gives the readings, and is run as seldom as heartbeats need
// it, however often somebody asks.
func TestNVIDIASMIIsRunSeldom(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int{50 * time.Millisecond: 24, 400 * time.Millisecond: 8, 3 * time.Second: 5} {
		synctest.Test(t, func(t *testing.T) {
			runs := 0
			s, err := New(Config{SMITelemetry: true, NVIDIASMI: func(context.Context, ...string) ([]byte, error) {
				runs++
				<-time.After(took)
				return []byte(`<nvidia_smi_log><gpu id="0"><utilization><gpu_util>7 %</gpu_util></utilization></gpu></nvidia_smi_log>`), nil
			}})
			require.NoError(t, err)
			for range 600 {
				_, err := s.Telemetry(t.Context())
				require.NoError(t, err)
				<-time.After(time.Second)
			}
			r, err := s.Telemetry(t.Context())
			require.NoError(t, err)
			require.Equal(t, 7.0, *r.GPUs[0].UtilizationPct)
			require.InDelta(t, want, runs, 2)
			require.NoError(t, s.Close())
		})
	}
}

// busyReader is a source that exists and gives no answer.
type busyReader struct{ Source }

func (busyReader) Telemetry(context.Context) (Telemetry, error) {
	return Telemetry{}, context.DeadlineExceeded
}

// A driver that hangs would hang nvidia-smi too.
func TestNVIDIASMIIsNotRunWhereNVMLHangs(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Sources: []Source{busyReader{}}, SMITelemetry: true, NVIDIASMI: func(context.Context, ...string) ([]byte, error) {
		t.Error("nvidia-smi is run")
		return nil, ErrAbsent
	}})
	require.NoError(t, err)
	_, err = s.live.read(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, s.Close())
}
