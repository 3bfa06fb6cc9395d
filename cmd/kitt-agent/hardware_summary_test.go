package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

// The machines are those of package hwdetect's own tests.
func TestWriteHardware(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a100-mig", "dgx-spark", "lost-gpu", "laptop"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "hwdetect", "testdata", name+".txt"))
		require.NoError(t, err)
		recording, err := hwdetecttest.ParseRecording(string(text))
		require.NoError(t, err)
		cfg := recording.Config()
		cfg.ModelDir, cfg.SMITelemetry = "/srv", true
		system, err := hwdetect.New(cfg)
		require.NoError(t, err)
		machine, err := system.Detect(t.Context())
		require.NoError(t, err)
		reading, err := system.Telemetry(t.Context())
		require.NoError(t, err)
		var shown bytes.Buffer
		require.NoError(t, writeHardware(&shown, machine, reading))
		golden(t, "hardware-"+name+".txt", shown.Bytes())
	}
}
