package simulated

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/runner"
)

// A line is one line of output, with a delay before it.
type line struct {
	step string
	text string
	same bool // comes together with the line before it
	bar  bool // whether a progress bar may come before it
	done int  // 1 + the index of the result that is there with this line
}

// A script is all that a run is going to print, and the report that it comes
// to. Both are drawn before the first line is printed.
type script struct {
	lines  []line
	report report
	fatal  *runner.ExitError // how it ends after the last line, where the model doesn't fit
}

// say adds what step prints at one moment: a line, or several.
func (s *script) say(step, format string, args ...any) {
	for i, text := range strings.Split(fmt.Sprintf(format, args...), "\n") {
		s.lines = append(s.lines, line{step: step, text: text, same: i > 0})
	}
}

// newScript draws the run of job on h with m's generator. With failed every
// request of every benchmark came to nothing.
func newScript(job runner.Job, h Hardware, m *measurer, failed bool) *script {
	s := &script{report: report{
		KittVersion: kittVersion, SuiteName: job.Suite, Engine: job.Engine, Model: job.Model,
		Passed: !failed, SystemInfo: h.systemInfo(),
	}}
	s.say("start", "KITT Benchmark Runner\n  Model:  %s\n  Engine: %s\n  Suite:  %s\n", job.Model, job.Engine, job.Suite)
	names, known := runner.SuiteBenchmarks(job.Suite)
	if !known {
		s.say("start", "Warning: no suite named '%s', running throughput only", job.Suite)
	}
	s.say("hardware", "Detecting hardware...")
	s.say("hardware", "  %s, %d cores, %d GiB RAM, %s", h.CPU, h.Cores, h.RAMBytes/gib, h.gpuText())
	s.say("engine", "Initializing %s engine...", job.Engine)
	s.say("engine", "  Engine container is up, waiting until it is healthy")
	s.say("model", "  Loading weights: %.1f billion parameters, %.2f bits each, %.1f GiB", m.params/1e9, m.bits, m.weightBytes()/gib)
	if !m.fits() {
		s.starve(m)
		return s
	}
	s.say("model", "  Model loaded, %.1f of %.1f GiB in use with its cache", m.need/gib, m.memory/gib)

	s.say("model", "Running %d benchmark(s)...\n", len(names))
	total := 0.0
	for _, name := range names {
		total += s.benchmark(name, m, failed)
	}
	r := &s.report
	r.TotalBenchmarks, r.TotalTime = len(r.Results), seconds(total)
	verdict := "PASSED"
	if failed {
		verdict, r.FailedCount = "FAILED", len(r.Results)
	} else {
		r.PassedCount = len(r.Results)
	}
	s.say("report", "\n%s\nStatus: %s", strings.Repeat("=", 60), verdict)
	s.say("report", "Results: %d/%d passed\nTime: %.1fs\nOutput: %s", r.PassedCount, r.TotalBenchmarks, total, job.ResultsDir)
	return s
}

// benchmark adds one benchmark and returns the seconds that it takes.
func (s *script) benchmark(name string, m *measurer, failed bool) float64 {
	r := result{TestName: name, TestVersion: "1.0.0", RunNumber: 1, Passed: !failed, Errors: []string{}, WarmupTimes: m.warmup()}
	took := 0.0
	for _, t := range r.WarmupTimes {
		took += float64(t)
	}
	d := m.measure(name)
	s.say(name, "[%s] run 1/1, %d warmup iterations", name, warmups)
	r.Metrics = d.metrics
	if failed {
		s.say(name, "[%s] warmup failed", name)
		r.Metrics, r.WarmupTimes = struct{}{}, []float{}
		for i := range requests {
			r.Errors = append(r.Errors, fmt.Sprintf("Error on iteration %d: engine returned HTTP 500", i))
		}
		d.summary, took = r.Errors[0], 0
	} else {
		s.say(name, "[%s] warm, %.3f s an iteration on average", name, took/warmups)
		took += d.took
	}
	s.report.Results = append(s.report.Results, r)
	s.lines = append(s.lines, line{
		step: name, text: "[" + name + "] " + d.summary, bar: true, done: len(s.report.Results),
	})
	return took
}

// starve ends the script the way a model ends that is too large: CUDA refuses
// the engine, so that `kitt run` gives up with status 1, while for a model that
// overflows the RAM the kernel comes and kills.
func (s *script) starve(m *measurer) {
	if !m.onGPU {
		s.fatal = killedForMemory(m.shortage())
		return
	}
	s.say("model", "torch.OutOfMemoryError: CUDA out of memory: %s", m.shortage())
	s.say("model", "The engine did not start")
	s.fatal = &runner.ExitError{Code: 1, Detail: "CUDA out of memory: " + m.shortage()}
}

func killedForMemory(detail string) *runner.ExitError {
	return &runner.ExitError{Code: 137, Signal: "SIGKILL", OOMKilled: true, Detail: detail}
}

func (h Hardware) gpuText() string {
	if h.GPUs == 0 {
		return "no GPU"
	}
	return fmt.Sprintf("%d × %s with %d GiB", h.GPUs, h.GPU.Model, h.GPU.MemoryBytes/gib)
}

// find returns before which line p comes, -1 for the empty Place.
func (s *script) find(p Place) int {
	switch {
	case p == "":
		return -1
	case p == middle:
		return len(s.lines) / 2
	}
	if n, err := strconv.Atoi(string(p)); err == nil {
		return min(n, len(s.lines))
	}
	for i, l := range s.lines {
		if l.step == string(p) {
			return i + 1
		}
	}
	return len(s.lines)
}
