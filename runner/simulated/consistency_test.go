package simulated

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/runner"
)

// check returns every way in which r contradicts itself or the machine h.
func check(r *report, h Hardware) error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	ascend := func(what string, xs ...float) {
		want(slices.IsSorted(xs), "%s do not ascend: %v", what, xs)
		want(xs[0] > 0 && !math.IsInf(float64(xs[len(xs)-1]), 0), "%s: %v", what, xs)
	}
	near := func(what string, a, b, part float64) {
		want(math.Abs(a-b) <= part*math.Max(math.Abs(a), math.Abs(b))+0.006, "%s: %v and %v", what, a, b)
	}
	want(r.TotalBenchmarks == len(r.Results) && r.PassedCount+r.FailedCount == r.TotalBenchmarks, "counts %+v", r)
	want(r.Passed == (r.FailedCount == 0), "passed")

	var through *throughputMetrics
	least := 0.0 // what the run took at least
	for _, res := range r.Results {
		want(len(res.WarmupTimes) == warmups, "warmups of %s", res.TestName)
		for _, w := range res.WarmupTimes {
			want(w > 0, "warmup of %s", res.TestName)
			least += float64(w)
		}
		switch m := res.Metrics.(type) {
		case throughputMetrics:
			through = &m
			least += float64(m.Time)
			ascend("rates", m.MinTPS, m.AvgTPS, m.MaxTPS)
			ascend("latencies", m.P50Latency, m.P99Latency)
			want(m.AvgLatency <= m.P99Latency, "mean latency")
			near("time and latencies", float64(m.Time), float64(m.AvgLatency)*float64(m.Iterations)/1000, 1e-4)
			rate := float64(m.Tokens) / float64(m.Time)
			want(rate >= float64(m.MinTPS)*0.98-0.01 && rate <= float64(m.MaxTPS)*1.02+0.01, "%v tokens/s in all against %+v", rate, m)
			want(m.Tokens > m.Iterations && m.Tokens <= m.Iterations*throughputTokens, "tokens %d", m.Tokens)
		case latencyMetrics:
			for _, d := range []distribution{m.TTFT, m.Total} {
				ascend("percentiles", d.Min, d.P50, d.P95, d.P99, d.Max)
				ascend("mean", d.Min, d.Avg, d.Max)
				want(d.StdDev >= 0 && d.StdDev <= d.Max-d.Min+0.01, "deviation %+v", d)
			}
			want(m.PerToken.Min >= 0 && m.PerToken.Min <= m.PerToken.Avg && m.PerToken.Avg <= m.PerToken.Max, "per token %+v", m.PerToken)
			// Each request's first token comes before its last, so that this holds
			// for every rank of the two.
			first, total := m.TTFT, m.Total
			want(first.Min <= total.Min && first.P50 <= total.P50 && first.P95 <= total.P95 &&
				first.P99 <= total.P99 && first.Max <= total.Max && first.Avg <= total.Avg, "first token after the last: %+v", m)
			least += float64(m.Total.Avg) * float64(m.Iterations) / 1000
			if through != nil {
				// The answers are shorter here, so that the first token weighs more,
				// and with it the overhead: 2 ms over some 100 tokens.
				each := 1000 / float64(through.AvgTPS)
				want(math.Abs(float64(m.PerToken.Avg)-each) <= 0.12*each+0.025, "%v ms a token and %v", m.PerToken.Avg, each)
			}
		case memoryMetrics:
			total := float64(h.GPUs) * float64(h.GPU.MemoryBytes) / gib
			want(m.Avg <= m.Peak, "average over peak %+v", m)
			want(float64(m.Peak) <= total, "peak of %v GiB in %v", m.Peak, total)
			want((m.Peak > 0) == (h.GPUs > 0), "memory of no GPU")
			p := m.PerPrompt
			want(p.Short <= p.Medium && p.Medium <= p.Long && p.Long == m.Peak, "%+v", m)
			want(m.Range >= 0 && m.Range <= m.Peak, "range %+v", m)
		case warmupMetrics:
			want(len(m.Latencies) == m.Iterations && m.First == m.Latencies[0], "%+v", m)
			later := 0.0
			for _, l := range m.Latencies {
				want(l > 0, "latency %v", l)
				least += float64(l) / 1000
			}
			for _, l := range m.Latencies[1:] {
				later += float64(l) / float64(m.Iterations-1)
			}
			near("later latencies", float64(m.SubsequentAvg), later, 1e-4)
			want(math.Abs(float64(m.Reduction)-100*(1-later/float64(m.First))) < 0.06+1/float64(m.First), "reduction %+v", m)
			want(m.Stabilization >= 2 && m.Stabilization < m.Iterations, "%+v", m)
		case accuracyMetrics:
			want(m.Total > 0 && m.Correct >= 0 && m.Correct <= m.Total && m.Errors == 0, "%+v", m)
			near("accuracy", float64(m.Accuracy), float64(m.Correct)/float64(m.Total), 0)
			want(math.Abs(float64(m.Accuracy)-float64(m.Correct)/float64(m.Total)) <= 0.00005001, "%+v", m)
			want(m.NumSubjects == len(m.PerSubject), "%+v", m)
			if m.NumSubjects > 0 {
				right := 0.0
				for _, a := range m.PerSubject {
					right += float64(a) * float64(m.Total/m.NumSubjects)
				}
				want(math.Abs(right-float64(m.Correct)) < 1e-6, "subjects sum to %v of %d", right, m.Correct)
			}
		default:
			want(false, "metrics of type %T", m)
		}
	}
	want(float64(r.TotalTime) >= least*0.999-0.001, "took %v s of at least %v", r.TotalTime, least)
	return errors.Join(errs...)
}

// draw returns the script of a job without running it.
func draw(h Hardware, seed uint64, model, engine, suite string) *script {
	job := runner.Job{ID: "j", Model: model, Engine: engine, Suite: suite, ResultsDir: "/results"}
	m := newMeasurer(place(parseModel(model, engine), h), rand.New(rand.NewPCG(seed, 1)))
	return newScript(job, h, m, false)
}

func on(gpu string, count int) Hardware {
	return Hardware{GPU: GPU{Model: gpu}, GPUs: count}.withDefaults()
}

func TestTenThousandSeeds(t *testing.T) {
	t.Parallel()
	machines := []Hardware{on("H100", 1), on("RTX 4090", 2), on("L4", 1), {Cores: 32, RAMBytes: 256 * gib}}
	models := []string{"Llama-3.1-8B-Instruct", "qwen2.5-0.5b", "gemma-2-9b-it-AWQ", "phi.Q4_K_M.gguf"}
	for seed := range uint64(10_000) {
		h := machines[seed%4].withDefaults()
		model := models[seed/4%4]
		s := draw(h, seed, model, "vllm", "standard")
		require.Nil(t, s.fatal)
		require.NoError(t, check(&s.report, h), "seed %d, %s on %s", seed, model, h.GPU.Model)
	}
}

func TestAnyModelOnAnyMachine(t *testing.T) {
	t.Parallel()
	known := KnownGPUs()
	rapid.Check(t, func(t *rapid.T) {
		h := Hardware{
			GPU:      rapid.SampledFrom(known).Draw(t, "gpu"),
			GPUs:     rapid.IntRange(0, 8).Draw(t, "gpus"),
			Cores:    rapid.IntRange(1, 128).Draw(t, "cores"),
			RAMBytes: rapid.Int64Range(8*gib, 1024*gib).Draw(t, "ram"),
		}.withDefaults()
		model := fmt.Sprintf("models/some-%s-%s",
			rapid.SampledFrom([]string{"0.5b", "1.5B", "3b", "8B", "14b", "8x7B", "70B", "405B", "30B-A3B", "large"}).Draw(t, "size"),
			rapid.SampledFrom([]string{"", "Q4_K_M", "Q8_0", "AWQ", "FP8", "fp32", "2.5bpw"}).Draw(t, "quantisation"))
		engine := rapid.SampledFrom([]string{"vllm", "ollama", "llama_cpp"}).Draw(t, "engine")
		suite := rapid.SampledFrom([]string{"quick", "performance", "standard", "other"}).Draw(t, "suite")
		s := draw(h, rapid.Uint64().Draw(t, "seed"), model, engine, suite)

		memory := float64(h.RAMBytes)
		if h.GPUs > 0 {
			memory = float64(h.GPUs) * float64(h.GPU.MemoryBytes)
		}
		m := parseModel(model, engine)
		switch weights := m.params * m.bits / 8; {
		case s.fatal == nil:
			if weights > memory {
				t.Fatalf("%v of weights ran in %v", weights, memory)
			}
			if err := check(&s.report, h); err != nil {
				t.Fatal(err)
			}
		case weights < 0.7*memory-8*gib:
			t.Fatalf("%v of weights did not run in %v", weights, memory)
		}
	})
}

func tps(t *testing.T, s *script) float64 {
	t.Helper()
	require.Nil(t, s.fatal)
	return float64(s.report.Results[0].Metrics.(throughputMetrics).AvgTPS)
}

// An H100 (3.35 TB/s) is faster than a 4090 (1.008 TB/s) by 3.32.
func TestSpeedFollowsBandwidth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		for _, model := range []string{"Llama-3.1-8B", "Qwen2.5-14B-AWQ"} {
			ratio := tps(t, draw(on("H100", 1), seed, model, "vllm", "quick")) / tps(t, draw(on("RTX 4090", 1), seed, model, "vllm", "quick"))
			require.InEpsilon(t, 3.35/1.008, ratio, 0.01, "same seed")
			other := tps(t, draw(on("H100", 1), seed+1, model, "vllm", "quick")) / tps(t, draw(on("RTX 4090", 1), seed, model, "vllm", "quick"))
			require.InEpsilon(t, 3.35/1.008, other, 0.10, "another seed")
		}
	}
}

func TestLargerModelsAreSlowerAndBetter(t *testing.T) {
	t.Parallel()
	right := func(s *script) (n int) {
		for _, r := range s.report.Results[:4] {
			n += r.Metrics.(accuracyMetrics).Correct
		}
		return n
	}
	for seed := range uint64(200) {
		h := on("H200", 1)
		small := draw(h, seed, "Llama-3.1-8B-FP8", "vllm", "quick")
		large := draw(h, seed+1000, "Llama-3.1-70B-FP8", "vllm", "quick")
		require.InEpsilon(t, 70.0/8, tps(t, small)/tps(t, large), 0.1)
		require.Less(t, right(draw(h, seed, "8B", "vllm", "standard")), right(draw(h, seed+1000, "70B-FP8", "vllm", "standard")))
	}
	// Only the active share of a mixture of experts is read for a token.
	require.Greater(t, tps(t, draw(on("H100", 1), 1, "Qwen3-30B-A3B", "vllm", "quick")), 5*tps(t, draw(on("H100", 1), 1, "Qwen3-32B", "vllm", "quick")))
}

func TestWhatFits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model string
		h     Hardware
		fits  bool
	}{
		{"Llama-3.1-8B", on("RTX 4090", 1), true},
		{"Llama-3.1-70B", on("RTX 4090", 1), false},
		{"Llama-3.1-70B", on("H100", 1), false},
		{"Llama-3.1-70B", on("H100", 2), true},
		{"Llama-3.1-70B", on("H200", 1), true},
		{"Llama-3.1-70B-Q4_K_M.gguf", on("L40S", 1), true},
		{"Llama-3.1-70B-Q4_K_M.gguf", on("RTX 4090", 1), false},
		{"Llama-3.1-405B", on("H100", 8), false},
		{"Llama-3.1-405B-FP8", on("H100", 8), true},
		{"Llama-3.1-8B", on("Tesla T4", 1), false},
		{"Llama-3.1-70B", Hardware{Cores: 8, RAMBytes: 64 * gib}.withDefaults(), false},
	} {
		s := draw(tt.h, 1, tt.model, "vllm", "quick")
		require.Equal(t, tt.fits, s.fatal == nil, "%s on %s", tt.model, tt.h.gpuText())
	}
}

func TestModelThatDoesNotFit(t *testing.T) {
	t.Parallel()
	log, metrics, err := run(t, Config{}, newJob(t, "a", "/models/Llama-3.1-70B", "quick"))
	exit, ok := errors.AsType[*runner.ExitError](err)
	require.True(t, ok)
	require.Equal(t, 1, exit.Code)
	require.False(t, exit.OOMKilled)
	require.ErrorContains(t, err, "Exit 1: CUDA out of memory: the model needs 132.6 GiB and there are 24.0 GiB")
	require.Contains(t, string(log), "CUDA out of memory")
	require.Nil(t, metrics)

	_, metrics, err = run(t, Config{Hardware: Hardware{Cores: 4, RAMBytes: 16 * gib}}, newJob(t, "a", "70B", "quick"))
	exit, ok = errors.AsType[*runner.ExitError](err)
	require.True(t, ok)
	class, _ := exit.Fault()
	require.Equal(t, runner.ClassOOM, class)
	require.Equal(t, 137, exit.Code)
	require.Nil(t, metrics)
}

func TestLookupGPU(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, like string
	}{
		{"NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"},
		{"rtx4090", "NVIDIA GeForce RTX 4090"},
		{"4090", "NVIDIA GeForce RTX 4090"},
		{"H100", "NVIDIA H100 80GB HBM3"},
		{"NVIDIA H100 PCIe", "NVIDIA H100 PCIe"},
		{"NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"},
		{"NVIDIA A100-PCIE-40GB", "NVIDIA A100-PCIE-40GB"},
		{"A100 80GB", "NVIDIA A100-SXM4-80GB"},
		{"NVIDIA L4", "NVIDIA L4"},
		{"NVIDIA L40S", "NVIDIA L40S"},
		{"NVIDIA A10G", "NVIDIA A10G"},
		{"NVIDIA RTX A6000", "NVIDIA RTX A6000"},
		{"NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada Generation"},
		{"NVIDIA GB10", "NVIDIA GB10"},
	} {
		gpu, ok := LookupGPU(tt.name)
		require.True(t, ok, tt.name)
		require.Equal(t, tt.name, gpu.Model)
		gpu.Model = tt.like
		require.Contains(t, KnownGPUs(), gpu)
	}
	for _, gpu := range KnownGPUs() {
		found, ok := LookupGPU(gpu.Model)
		require.True(t, ok)
		require.Equal(t, gpu, found, "each is found by its own name")
	}
	gpu, ok := LookupGPU("Voodoo 3")
	require.False(t, ok)
	require.Equal(t, "Voodoo 3", gpu.Model)
	require.NoError(t, on("Voodoo 3", 1).validate())
}

func TestParseModel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, engine string
		want         model
	}{
		{"meta-llama/Llama-3.1-8B-Instruct", "vllm", model{8e9, 8e9, 16}},
		{"/models/Llama-3.1-70B", "vllm", model{70e9, 70e9, 16}},
		{"/models/Llama-3.1-70B/", "vllm", model{70e9, 70e9, 16}},
		{"qwen2.5:0.5b", "ollama", model{0.5e9, 0.5e9, 4.89}},
		{"qwen2.5:7b-instruct-q8_0", "ollama", model{7e9, 7e9, 8.5}},
		{"TheBloke/Mistral-7B-v0.1-AWQ", "vllm", model{7e9, 7e9, 4.25}},
		{"Mistral-7B-GPTQ-Int8", "vllm", model{7e9, 7e9, 8}},
		{"llama-3-8b.Q4_K_M.gguf", "llama_cpp", model{8e9, 8e9, 4.89}},
		{"llama-3-8b-IQ2_XXS.gguf", "llama_cpp", model{8e9, 8e9, 2.38}},
		{"Llama-3-8B-4.0bpw-exl2", "exllamav2", model{8e9, 8e9, 4}},
		{"mixtral-8x7B-Instruct-v0.1", "vllm", model{0.82 * 8 * 7e9, 1.8 * 7e9, 16}},
		{"Qwen3-30B-A3B-FP8", "vllm", model{30e9, 3e9, 8}},
		{"opt-350m", "vllm", model{350e6, 350e6, 16}},
		{"Kimi-K2-1T-A32B", "vllm", model{1e12, 32e9, 16}},
		{"/hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", "vllm", model{8e9, 8e9, 16}},
		{"/share/70B/tokenizer/Phi-3-mini-4k", "vllm", model{70e9, 70e9, 16}},
		{"slow-model", "vllm", model{7e9, 7e9, 16}},
		{"", "vllm", model{7e9, 7e9, 16}},
		{"////", "vllm", model{7e9, 7e9, 16}},
		{"99999999999999b", "vllm", model{7e9, 7e9, 16}},
		{"7B-99bpw", "vllm", model{7e9, 7e9, 16}},
	} {
		got := parseModel(tt.name, tt.engine)
		require.InEpsilon(t, tt.want.params, got.params, 1e-9, tt.name)
		require.InEpsilon(t, tt.want.active, got.active, 1e-9, tt.name)
		require.InEpsilon(t, tt.want.bits, got.bits, 1e-9, tt.name)
	}
}

func FuzzParseModel(f *testing.F) {
	for _, seed := range []string{"Llama-3.1-8B", "8x7b", "1m", "1024x1t", "a/b/c-0.5b.Q4_K_M", "30B-A3B", "1.1.1b", "nanb", "infb", "\xff8b"} {
		f.Add(seed, "ollama")
	}
	f.Fuzz(func(t *testing.T, name, engine string) {
		m := parseModel(name, engine)
		if !between(m.params, 1e6, maxParams) || !between(m.active, 1e6, m.params) || !between(m.bits, 1, 32) {
			t.Fatalf("%q: %+v", name, m)
		}
		if s := draw(on("H100", 8), 1, name, engine, "performance"); s.fatal == nil {
			if err := check(&s.report, on("H100", 8)); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
	})
}
