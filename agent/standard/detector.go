package standard

import (
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/nvml"
)

// A Detector describes the machine that the program runs on.
type Detector struct {
	*hwdetect.System
	gpus *nvml.Source
}

// NewDetector returns a detector that also asks NVML, and nvidia-smi for telemetry where
// there is no NVML. An empty ModelDir leaves it to the machine's first disk.
func NewDetector(cfg hwdetect.Config) (*Detector, error) {
	gpus := nvml.New(nvml.Config{Logger: cfg.Logger})
	cfg.Sources = append([]hwdetect.Source{gpus}, cfg.Sources...)
	cfg.SMITelemetry = true
	system, err := hwdetect.New(cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("standard: %w", err), gpus.Close())
	}
	return &Detector{system, gpus}, nil
}

// Integrity returns what reads the state of the machine during benchmarks, for
// agent.Integrity.
func (d *Detector) Integrity() *integrity.Machine {
	return integrity.NewMachine(integrity.MachineConfig{Telemetry: d, Counters: d, Processes: d})
}

// Close closes the detector and what it has of NVML. The Detector must not be used
// afterwards.
func (d *Detector) Close() error { return errors.Join(d.System.Close(), d.gpus.Close()) }
