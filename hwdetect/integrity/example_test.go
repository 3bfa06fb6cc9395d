package integrity_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// A program samples a machine with eight GPUs, ends, and a later one continues the
// file.
func ExampleSampleFile() {
	dir, err := os.MkdirTemp("", "integrity")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "telemetry.csv")

	profile, _ := hwdetect.Profile("h100-8")
	gpus := hwdetect.Static{Machine: profile, Load: func() float64 { return 1 }}
	for range 2 {
		machine := integrity.NewMachine(integrity.MachineConfig{Telemetry: gpus, Counters: gpus})
		file, err := integrity.OpenSampleFile(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		sample, err := machine.Sample(context.Background())
		if err == nil {
			err = file.Append(sample)
		}
		if err := file.Close(); err != nil {
			fmt.Println(err)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	bad, err := integrity.ReadSamples(path, func(s integrity.Sample) error {
		fmt.Println(len(s.GPUs), "GPUs, utilisation of the first:", *s.GPUs[0].UtilizationPct)
		return nil
	})
	fmt.Println(bad, err)
	// Output:
	// 8 GPUs, utilisation of the first: 100
	// 8 GPUs, utilisation of the first: 100
	// 0 <nil>
}
