package simulated

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/runner"
)

// Each of 10,000 seeds gives the same run again, byte for byte, and no two of
// them the same.
func TestTenThousandSeedsRepeatThemselves(t *testing.T) {
	t.Parallel()
	h := on("H100", 1)
	play := func(seed uint64) [sha256.Size]byte {
		suite := "quick"
		switch {
		case seed%64 == 1:
			suite = "standard"
		case seed%8 == 0:
			suite = "performance"
		}
		s := draw(h, seed, "Llama-3.1-8B", "vllm", suite)
		all, err := s.report.encode()
		require.NoError(t, err)
		for _, l := range s.lines {
			all = append(append(all, l.text...), '\n')
		}
		return sha256.Sum256(all)
	}
	seen := map[[sha256.Size]byte]uint64{}
	for seed := range uint64(10_000) {
		run := play(seed)
		if again := play(seed); again != run {
			require.Fail(t, "another run", "seed %d", seed)
		}
		if twin, known := seen[run]; known {
			require.Fail(t, "the same run", "seeds %d and %d", seed, twin)
		}
		seen[run] = seed
	}
}

// What the machine and the model's size do to the speed holds for each of
// 10,000 seeds: 70B is slower than 8B by the ratio of the sizes, and an H100
// faster than a 4090 by the ratio of their bandwidths (3.35 and 1.008 TB/s).
func TestTenThousandSeedsKeepTheRatios(t *testing.T) {
	t.Parallel()
	within := func(what string, want, got, part float64, seed uint64) {
		if got < want*(1-part) || got > want*(1+part) {
			require.Fail(t, "ratio", "%s: %v, not %v, of seed %d", what, got, want, seed)
		}
	}
	h100, h100s, rtx4090 := on("H100", 1), on("H100", 2), on("RTX 4090", 1)
	for seed := range uint64(10_000) {
		fast := tps(t, draw(h100, seed, "Llama-3.1-8B", "vllm", "quick"))
		slow := tps(t, draw(rtx4090, seed, "Llama-3.1-8B", "vllm", "quick"))
		within("H100 to 4090", 3.35/1.008, fast/slow, 0.01, seed)
		large := tps(t, draw(h100s, seed, "Llama-3.1-70B", "vllm", "quick"))
		within("8B to 70B", 70.0/8, fast/large, 0.05, seed)
		if draw(h100, seed, "Llama-3.1-70B", "vllm", "quick").fatal == nil {
			require.Fail(t, "70B ran on one H100", "seed %d", seed)
		}
	}
}

// A played is all that a run comes to.
type played struct{ log, metrics, err string }

func playOnce(t require.TestingT, cfg Config, model, suite string) (p played, err error) {
	cfg.Now = fixedClock
	cfg.WriteFile = func(_ string, data []byte) error {
		p.metrics = string(data)
		return nil
	}
	r, err := New(cfg)
	require.NoError(t, err)
	var out recording
	_, err = r.Run(context.Background(), runner.Job{ID: "a", Model: model, Engine: "vllm", Suite: suite, ResultsDir: "/results"}, &out)
	p.log = out.text.String()
	p.err = fmt.Sprint(err)
	return p, err
}

// added are lines that scenarios add to a log.
var added = regexp.MustCompile(`(?m)^(flood line .*|[0-9]+|.*\r.*|  tokenizer: .*|Error: simulated .*)\n`)

// Whatever goes wrong, in whatever combination: the same seed gives the same
// run, a run that breaks off has printed what a good one prints up to there, and
// metrics.json is there only after a success, with the same figures.
func TestAnyScenarioOfAnySeed(t *testing.T) {
	t.Parallel()
	places := []Place{"", "", "", "0", "7", "start", "model", "latency", "report", "middle"}
	rapid.Check(t, func(t *rapid.T) {
		place := rapid.SampledFrom(places)
		scenario := Scenario{
			FailAt: place.Draw(t, "fail"), OOM: place.Draw(t, "oom"), Crash: place.Draw(t, "crash"),
			Exit:  rapid.SampledFrom([]int{0, 0, 0, 2, 137}).Draw(t, "exit"),
			Slow:  rapid.SampledFrom([]float64{0, 10}).Draw(t, "slow"),
			Flood: rapid.SampledFrom([]int{0, 1, 500}).Draw(t, "flood"), LongLine: rapid.SampledFrom([]int{0, 5, 70_000}).Draw(t, "long line"),
			Progress: rapid.Bool().Draw(t, "progress"), InvalidUTF8: rapid.Bool().Draw(t, "invalid"),
			NoMetrics: rapid.Bool().Draw(t, "no metrics"),
		}
		cfg := Config{Seed: rapid.Uint64().Draw(t, "seed"), Scenario: scenario}
		model := rapid.SampledFrom([]string{"Llama-3.1-8B", "Llama-3.1-70B"}).Draw(t, "model")
		suite := rapid.SampledFrom([]string{"quick", "performance", "standard"}).Draw(t, "suite")
		got, err := playOnce(t, cfg, model, suite)
		again, _ := playOnce(t, cfg, model, suite)
		require.Equal(t, got, again)

		good, _ := playOnce(t, Config{Seed: cfg.Seed}, model, suite)
		plain := added.ReplaceAllString(got.log, "")
		if err != nil {
			require.Empty(t, got.metrics)
			require.True(t, strings.HasPrefix(good.log, plain), "%q is no beginning of a good run", plain)
			_, exited := errors.AsType[*runner.ExitError](err)
			require.True(t, exited || errors.Is(err, ErrCrash), "%v", err)
			return
		}
		require.Equal(t, good.log, plain)
		if scenario.NoMetrics {
			require.Empty(t, got.metrics)
		} else {
			require.Equal(t, good.metrics, got.metrics)
		}
	})
}

// The check that 10,000 seeds pass finds each contradiction that it is for.
func TestTheCheckFindsContradictions(t *testing.T) {
	t.Parallel()
	h := on("H100", 1)
	result := func(r *report, name string) *result {
		return &r.Results[slices.IndexFunc(r.Results, func(r result) bool { return r.TestName == name })]
	}
	for name, change := range map[string]func(*report){
		"a percentile": func(r *report) {
			l := result(r, "latency")
			m := l.Metrics.(latencyMetrics)
			m.TTFT.P50 = m.TTFT.P95 + 1
			l.Metrics = m
		},
		"latency and throughput": func(r *report) {
			l := result(r, "latency")
			m := l.Metrics.(latencyMetrics)
			m.PerToken.Avg *= 2
			m.PerToken.Max *= 2
			l.Metrics = m
		},
		"rate and time": func(r *report) {
			l := result(r, "throughput")
			m := l.Metrics.(throughputMetrics)
			m.Tokens *= 2
			l.Metrics = m
		},
		"accuracy": func(r *report) {
			l := result(r, "gsm8k")
			m := l.Metrics.(accuracyMetrics)
			m.Correct--
			l.Metrics = m
		},
		"average over peak": func(r *report) {
			l := result(r, "memory_usage")
			m := l.Metrics.(memoryMetrics)
			m.Avg = m.Peak + 0.1
			l.Metrics = m
		},
		"more memory than there is": func(r *report) {
			l := result(r, "memory_usage")
			m := l.Metrics.(memoryMetrics)
			m.Peak, m.PerPrompt.Long = 81, 81
			l.Metrics = m
		},
		"the warmup's average": func(r *report) {
			l := result(r, "warmup_analysis")
			m := l.Metrics.(warmupMetrics)
			m.SubsequentAvg *= 1.1
			l.Metrics = m
		},
		"the counts":     func(r *report) { r.PassedCount-- },
		"the total time": func(r *report) { r.TotalTime = 1 },
	} {
		s := draw(h, 1, "Llama-3.1-8B", "vllm", "standard")
		require.NoError(t, check(&s.report, h))
		change(&s.report)
		require.Error(t, check(&s.report, h), name)
	}
}
