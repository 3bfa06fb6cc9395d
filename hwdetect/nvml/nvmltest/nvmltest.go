// Package nvmltest has a libnvidia-ml that plays a script, for tests of whole programs
// on machines without a GPU. A [Script] says what the GPUs answer when, and [Build]
// makes the shared library with a C compiler. A program that is built with the tag nvml
// loads it where LD_LIBRARY_PATH names its directory and [Env] the script.
package nvmltest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Env is the variable that names the script of a program.
const Env = "KITT_NVML_SCRIPT"

// Library is the name of the shared library.
const Library = "libnvidia-ml.so.1"

//go:embed library/scripted.c
var source []byte

// Build makes the library in dir, with the C compiler that the variable CC names, or cc.
func Build(ctx context.Context, dir string) error {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	cmd := exec.CommandContext(ctx, compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", filepath.Join(dir, Library))
	cmd.Stdin = strings.NewReader(string(source))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the scripted NVML: %w: %s", err, out)
	}
	return nil
}

// All stands for every GPU in a script.
const All = -1

// A Script says what the GPUs answer. Its zero value is a machine without any; [Healthy]
// is one with healthy GPUs. Keys are those of the library's source, scripted.c.
type Script struct{ lines []string }

// Healthy returns a script of n H100s that are busy from busy on.
func Healthy(n int, busy time.Duration) *Script {
	s := &Script{}
	s.Set(0, All, "gpus", float64(n))
	for key, value := range map[string]float64{
		"utilization": 0, "temperature": 40, "power_mw": 90_000, "power_limit_mw": 700_000, "default_power_limit_mw": 700_000,
		"persistence": 1, "compute_mode": 0, "ecc_mode": 1, "pstate": 0, "sm_clock": 1980, "memory_clock": 2619, "max_sm_clock": 1980,
		"reasons": 1, "pcie_gen": 5, "pcie_width": 16, "max_pcie_gen": 5, "max_pcie_width": 16, "pcie_replays": 0,
		"ecc_uncorrected": 0, "ecc_corrected": 0, "remap_pending": 0,
		"field.74": 0, "field.76": 0, "field.269": 0, "field.270": 0, "field.271": 0, "field.82": 45,
	} {
		s.Set(0, All, key, value)
	}
	s.Grow(0, All, "energy_mj", 0, 90_000)
	s.Set(busy, All, "utilization", 99)
	s.Set(busy, All, "power_mw", 650_000)
	s.Set(busy, All, "temperature", 64)
	s.Set(busy, All, "reasons", 0)
	s.Grow(busy, All, "energy_mj", busy.Seconds()*90_000, 650_000)
	return s
}

// Set has key of a GPU, or of [All], be value from at on.
func (s *Script) Set(at time.Duration, gpu int, key string, value float64) {
	s.Grow(at, gpu, key, value, 0)
}

// Grow has key be value at at, and grow by rate per second.
func (s *Script) Grow(at time.Duration, gpu int, key string, value, rate float64) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	s.lines = append(s.lines, fmt.Sprintf("%d %d %s %s %s", at.Milliseconds(), gpu, key, number(value), number(rate)))
}

// Text returns the script as the library reads it, for one that begins at epoch. A line
// of one GPU comes after those of all, so that it counts.
func (s *Script) Text(epoch time.Time) string {
	var all, one strings.Builder
	for _, line := range s.lines {
		to := &one
		if strings.Contains(line, " "+strconv.Itoa(All)+" ") {
			to = &all
		}
		to.WriteString(line + "\n")
	}
	return fmt.Sprintf("epoch %d\n%s%s", epoch.UnixMilli(), all.String(), one.String())
}

// Write writes the script to path, in one step, for one that begins at epoch.
func (s *Script) Write(path string, epoch time.Time) error {
	if len(s.lines) == 0 {
		return errors.New("nvmltest: the script is empty")
	}
	return base.WriteFile(path, []byte(s.Text(epoch)))
}
