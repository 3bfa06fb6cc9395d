package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A Plan is the content of a file that describes a fleet. Its fields are those of
// [Config] with the same names.
type Plan struct {
	Prefix   string             `yaml:"prefix"`
	Seed     uint64             `yaml:"seed"`
	Speed    *float64           `yaml:"speed"` // nil if the file has none
	Scenario simulated.Scenario `yaml:"scenario"`
	Groups   []Group            `yaml:"agents"`
}

// MaxPlan is the size of the largest file that [ReadPlan] reads, in bytes.
const MaxPlan = 1 << 20

// ReadPlan reads the description of a fleet, in YAML:
//
//	prefix: lab
//	seed: 7
//	speed: 0.5
//	agents:
//	  - profile: h100-8
//	    count: 20
//	  - name: flaky
//	    profile: rtx4090
//	    count: 5
//	    scenario: progress,fail-at=latency
//	  - name: spark
//	    count: 3
//	    gpu: NVIDIA GB10
//	    gpus: 1
//	    arch: arm64
//	    ram_gb: 120
//	    environment: dgx_spark
//
// The keys of an entry are those of [Group]; count is required. An unknown key is an
// error with its line number, and a file without agents or of more than [MaxPlan]
// bytes is an error too.
func ReadPlan(r io.Reader) (Plan, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxPlan+1))
	if err != nil {
		return Plan{}, err
	}
	if len(text) > MaxPlan {
		return Plan{}, fmt.Errorf("fleet: the file is larger than %d KiB", MaxPlan>>10)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var p Plan
	if err := dec.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Plan{}, fmt.Errorf("fleet: %w", err)
	}
	if len(p.Groups) == 0 {
		return Plan{}, errors.New("fleet: the file has no agents")
	}
	for i := range p.Groups {
		if g := &p.Groups[i]; g.Count < 1 {
			return Plan{}, fmt.Errorf("fleet: entry %d, %.40q: count is %d, but must be 1 or more", i+1, g.label(), g.Count)
		}
	}
	return p, nil
}
