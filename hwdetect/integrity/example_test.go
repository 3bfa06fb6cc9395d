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

// An embedder has a judge of its own beside the default rules, and other limits.
func ExampleDecide() {
	rules, err := integrity.SetLimits(integrity.DefaultRules(), map[string]integrity.Limit{"swap_in": {}})
	if err != nil {
		fmt.Println(err)
		return
	}
	quiet := integrity.Rule{
		Code: "oom", Unit: "count", Limit: integrity.Limit{Invalid: new(0.0)},
		Figures: func(e *integrity.Evidence) []integrity.Figure {
			return []integrity.Figure{{
				Value: float64(*e.End.Host.OOMKills - *e.Start.Host.OOMKills),
				Text:  "the kernel ended processes for lack of memory",
			}}
		},
	}
	start := integrity.State{Host: integrity.HostState{OOMKills: new(int64(0))}}
	end := integrity.State{Host: integrity.HostState{OOMKills: new(int64(2))}}
	verdict := integrity.Decide(&integrity.Evidence{Start: start, End: &end}, append(integrity.Judges(rules), quiet)...)
	fmt.Println(verdict.Line())
	// Output: Machine: INVALID - the kernel ended processes for lack of memory
}
