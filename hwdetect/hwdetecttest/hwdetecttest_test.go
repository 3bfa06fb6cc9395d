package hwdetecttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

func TestFakeAndStaticKeepTheContract(t *testing.T) {
	t.Parallel()
	for _, name := range hwdetect.Profiles() {
		m, _ := hwdetect.Profile(name)
		fake, static := hwdetecttest.NewFake(m), hwdetect.Static{Machine: m, Load: func() float64 { return 7 }}
		require.NoError(t, hwdetecttest.TestDetector(t.Context(), fake), name)
		require.NoError(t, hwdetecttest.TestTelemetryReader(t.Context(), fake), name)
		require.NoError(t, hwdetecttest.TestDetector(t.Context(), static), name)
		require.NoError(t, hwdetecttest.TestTelemetryReader(t.Context(), static), name)
		require.NoError(t, hwdetecttest.TestCounterReader(t.Context(), fake), name)
		require.NoError(t, hwdetecttest.TestCounterReader(t.Context(), static), name)
		require.NoError(t, hwdetecttest.TestProcessReader(t.Context(), fake), name)
		require.NoError(t, hwdetecttest.TestProcessReader(t.Context(), static), name)
	}
	var zero hwdetecttest.Fake
	require.NoError(t, hwdetecttest.TestDetector(t.Context(), &zero))
	require.NoError(t, hwdetecttest.TestTelemetryReader(t.Context(), &zero))
}

func TestContractFindsViolations(t *testing.T) {
	t.Parallel()
	m, _ := hwdetect.Profile("dgx-spark")
	m.GPUs[0].MemoryBytes = 7
	m.EnvironmentType = "cloud"
	m.Gaps = []hwdetect.Gap{{What: "x"}}
	err := hwdetecttest.TestDetector(t.Context(), hwdetecttest.NewFake(m))
	require.ErrorContains(t, err, "unified memory of 7 bytes")
	require.ErrorContains(t, err, `"cloud"`)
	require.ErrorContains(t, err, "no name or no reason")

	var fake hwdetecttest.Fake
	fake.SetTelemetry(hwdetect.Telemetry{GPUs: []hwdetect.GPUTelemetry{{UtilizationPct: new(101.0)}}}, nil)
	require.ErrorContains(t, hwdetecttest.TestTelemetryReader(t.Context(), &fake), "101%")

	fake.SetCounters(hwdetect.Counters{GPUs: []hwdetect.GPUCounters{{SWThermal: new(-time.Second)}, {}}}, nil)
	err = hwdetecttest.TestCounterReader(t.Context(), &fake)
	require.ErrorContains(t, err, "negative")
	require.ErrorContains(t, err, "twice")
	fake.SetProcesses([]hwdetect.GPUProcess{{PID: 0, SMPct: new(120.0)}}, nil)
	err = hwdetecttest.TestProcessReader(t.Context(), &fake)
	require.ErrorContains(t, err, "PID 0")
	require.ErrorContains(t, err, "120%")
}

func TestFakeReturnsWhatWasSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := hwdetect.Profile("h100-8")
		fake := hwdetecttest.NewFake(m)
		fake.SetDelay(time.Minute)
		start := time.Now()
		got, err := fake.Detect(t.Context())
		require.NoError(t, err)
		require.Same(t, m, got)
		require.Equal(t, time.Minute, time.Since(start))

		fake.SetFault("GPU 3 has disappeared")
		r, err := fake.Telemetry(t.Context())
		require.NoError(t, err)
		require.Equal(t, "GPU 3 has disappeared", r.Fault)
		fake.SetFault("")
		r, err = fake.Telemetry(t.Context())
		require.NoError(t, err)
		require.Empty(t, r.Fault)
		require.Len(t, r.GPUs, 8)

		broken := errors.New("broken")
		fake.SetTelemetry(hwdetect.Telemetry{}, broken)
		fake.SetMachine(nil, broken)
		_, err = fake.Telemetry(t.Context())
		require.ErrorIs(t, err, broken)
		_, err = fake.Detect(t.Context())
		require.ErrorIs(t, err, broken)
		detect, telemetry := fake.Calls()
		require.Equal(t, 2, detect)
		require.Equal(t, 3, telemetry)
	})
}

func TestRecordingRejectsBadPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/etc/passwd", "../x", "a//b"} {
		_, err := hwdetecttest.ParseRecording("-- " + path + " --\nx\n")
		require.Error(t, err, path)
	}
}

func Example() {
	machine, _ := hwdetect.Profile("rtx4090")
	fake := hwdetecttest.NewFake(machine)
	fake.SetFault("GPU 0 fell off the bus")

	reading, err := fake.Telemetry(context.Background())
	fmt.Println(reading.Fault, err)
	// Output: GPU 0 fell off the bus <nil>
}

func ExampleParseRecording() {
	recording, err := hwdetecttest.ParseRecording(`A small machine.
-- proc/meminfo --
MemTotal:       2097152 kB
-- proc/sys/kernel/osrelease --
6.8.0
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	system, err := hwdetect.New(recording.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer system.Close()
	m, err := system.Detect(context.Background())
	fmt.Println(m.Fingerprint(), err)
	// Output: unknown-0c_2GB_Linux-6.8.0 <nil>
}
