package simulated

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// How many requests the benchmarks make, as `kitt run` does.
const (
	warmups          = 5
	warmupTokens     = 10
	requests         = 5
	throughputTokens = 256
	latencyTokens    = 128
	analysisRequests = 10
	analysisTokens   = 100
)

// A measurer draws the figures of one run. How often it asks its generator
// depends on the benchmarks alone, not on the machine, so that the same seed on
// two machines gives runs that differ by their hardware only.
type measurer struct {
	machine
	rng  *rand.Rand
	pace float64 // this run's deviation from the model: the heat of the day
}

func newMeasurer(p machine, rng *rand.Rand) *measurer {
	m := &measurer{machine: p, rng: rng}
	m.pace = m.near(1, 0.03)
	return m
}

// near returns x times a factor that is evenly drawn from 1-part to 1+part.
func (m *measurer) near(x, part float64) float64 {
	return x * (1 + part*(2*m.rng.Float64()-1))
}

// A request is one call of the engine. Times are in seconds.
type request struct {
	tokens       int
	first, total float64
}

func (r request) rate() float64 { return float64(r.tokens) / r.total }

// request draws one call with about so many prompt tokens and exactly tokens
// generated ones.
func (m *measurer) request(prompt, tokens int) request {
	first := m.near(m.pace*m.firstToken(prompt)+requestOverhead.Seconds(), 0.03)
	each := m.near(m.pace*m.perToken(), 0.015)
	return request{tokens: tokens, first: first, total: first + float64(tokens-1)*each}
}

// upTo draws how many tokens an answer has: half of the answers run into the
// limit, the others end by themselves within its last third.
func (m *measurer) upTo(limit int) int {
	short := m.rng.IntN(limit/3 + 1)
	if m.rng.IntN(2) == 0 {
		return limit
	}
	return limit - short
}

// warmup draws the times of the calls before a benchmark. The first one pays
// for kernels that are not there yet.
func (m *measurer) warmup() []float {
	times := make([]float, warmups)
	for i := range times {
		times[i] = seconds(m.request(12, warmupTokens).total * m.cold(i))
	}
	return times
}

// seconds rounds to a nanosecond, which is what a clock can tell. It also hides
// the last bits of a float, in which processors differ.
func seconds(s float64) float { return round(s, 9) }

// cold is the factor by which call number i of a fresh engine is slower.
func (m *measurer) cold(i int) float64 {
	factor := m.near(1, 0.2)
	return 1 + 1.5*factor*math.Exp(-1.8*float64(i))
}

// drawing is what a benchmark measured, beside the metrics for the log.
type drawing struct {
	metrics any
	took    float64 // seconds, without its warmup
	summary string  // one line for the log
}

// measure draws benchmark name.
func (m *measurer) measure(name string) drawing {
	switch name {
	case "latency":
		return m.latency()
	case "memory_usage":
		return m.memoryUsage()
	case "warmup_analysis":
		return m.warmupAnalysis()
	case "mmlu", "gsm8k", "truthfulqa", "hellaswag":
		return m.answers(name)
	}
	return m.throughput()
}

func (m *measurer) throughput() drawing {
	var rates, latencies []float64
	tokens := 0
	for range requests {
		r := m.request(14, m.upTo(throughputTokens))
		tokens += r.tokens
		rates = append(rates, r.rate())
		latencies = append(latencies, r.total*1000)
	}
	slices.Sort(latencies)
	t := throughputMetrics{
		Iterations: requests, Tokens: tokens, Time: round(sum(latencies)/1000, 3),
		AvgTPS: round(mean(rates), 2), MinTPS: round(slices.Min(rates), 2), MaxTPS: round(slices.Max(rates), 2),
		AvgLatency: round(mean(latencies), 2), P50Latency: round(percentile(latencies, 50), 2), P99Latency: round(percentile(latencies, 99), 2),
	}
	return drawing{t, sum(latencies) / 1000, fmt.Sprintf("%.2f tokens/s on average, p99 latency %.2f ms", t.AvgTPS, t.P99Latency)}
}

func (m *measurer) latency() drawing {
	var first, total, each []float64
	for range requests {
		r := m.request(7, m.upTo(latencyTokens))
		first = append(first, r.first*1000)
		total = append(total, r.total*1000)
		each = append(each, r.total*1000/float64(r.tokens))
	}
	l := latencyMetrics{
		Iterations: requests, TTFT: distribute(first), Total: distribute(total),
		PerToken: spread{round(mean(each), 2), round(slices.Min(each), 2), round(slices.Max(each), 2)},
	}
	return drawing{l, sum(total) / 1000, fmt.Sprintf("TTFT p50 %.2f ms, total p99 %.2f ms", l.TTFT.P50, l.Total.P99)}
}

// memoryUsage is zero throughout where the model runs on the CPU, as it is in a
// real run on a machine that has no GPU to ask.
func (m *measurer) memoryUsage() drawing {
	prompts := [...]int{6, 24, 110}
	var peaks, averages []float64
	var most [len(prompts)]float64
	took := 0.0
	used := m.weightBytes() + float64(m.gpus)*gpuContextBytes*(1-0.1*m.rng.Float64())
	for i, prompt := range prompts {
		for _, tokens := range [...]int{32, 128, 512} {
			took += m.request(prompt, tokens).total
			if !m.onGPU {
				peaks, averages = append(peaks, 0), append(averages, 0)
				continue
			}
			cache := m.kvBytes(float64(prompt + tokens))
			peak := (used + cache) / gib
			peaks = append(peaks, peak)
			averages = append(averages, (used+cache/2)/gib)
			most[i] = max(most[i], peak)
		}
	}
	u := memoryMetrics{
		Measurements: len(peaks), Peak: round(slices.Max(peaks), 3), Avg: round(mean(averages), 3),
		PerPrompt: promptPeak{round(most[0], 3), round(most[1], 3), round(most[2], 3)},
		Range:     round(slices.Max(peaks)-slices.Min(peaks), 3),
	}
	return drawing{u, took, fmt.Sprintf("peak %.3f GB, average %.3f GB", u.Peak, u.Avg)}
}

func (m *measurer) warmupAnalysis() drawing {
	latencies := make([]float64, analysisRequests)
	for i := range latencies {
		latencies[i] = float64(round(m.request(12, analysisTokens).total*m.cold(i)*1000, 2))
	}
	first, later := latencies[0], mean(latencies[1:])
	w := warmupMetrics{
		Iterations: len(latencies), First: round(first, 2), SubsequentAvg: round(later, 2),
		Reduction: round((first-later)/first*100, 1), Stabilization: stable(latencies),
	}
	for _, l := range latencies {
		w.Latencies = append(w.Latencies, float(l))
	}
	return drawing{w, sum(latencies) / 1000, fmt.Sprintf("first %.2f ms, then %.2f ms", w.First, w.SubsequentAvg)}
}

// stable returns the first request, from the third on, that is like the two
// before it: none of the three differs from their mean by a tenth.
func stable(latencies []float64) int {
	for i := 2; i < len(latencies); i++ {
		window := latencies[i-2 : i+1]
		center := mean(window)
		if center-slices.Min(window) < 0.1*center && slices.Max(window)-center < 0.1*center {
			return i
		}
	}
	return len(latencies) - 1
}

// distribute sorts ms and describes it.
func distribute(ms []float64) distribution {
	slices.Sort(ms)
	return distribution{
		Avg: round(mean(ms), 2), Min: round(ms[0], 2), Max: round(ms[len(ms)-1], 2),
		P50: round(percentile(ms, 50), 2), P95: round(percentile(ms, 95), 2), P99: round(percentile(ms, 99), 2),
		StdDev: round(deviation(ms), 2),
	}
}

// percentile returns the value of sorted with p percent of the others below
// it, without interpolation.
func percentile(sorted []float64, p int) float64 {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

func sum(xs []float64) float64 {
	total := 0.0
	for _, x := range xs {
		total += x
	}
	return total
}

func mean(xs []float64) float64 { return sum(xs) / float64(len(xs)) }

// deviation is the standard deviation of a sample.
func deviation(xs []float64) float64 {
	center, squares := mean(xs), 0.0
	for _, x := range xs {
		squares += (x - center) * (x - center)
	}
	return math.Sqrt(squares / float64(len(xs)-1))
}
