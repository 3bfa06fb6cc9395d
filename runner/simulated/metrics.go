package simulated

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// kittVersion is the version of `kitt run` whose metrics.json this is.
const kittVersion = "1.7.0"

// report is metrics.json as `kitt run` writes it, in its order of fields.
type report struct {
	KittVersion     string     `json:"kitt_version"`
	SuiteName       string     `json:"suite_name"`
	Timestamp       stamp      `json:"timestamp"`
	Engine          string     `json:"engine"`
	Model           string     `json:"model"`
	Passed          bool       `json:"passed"`
	TotalBenchmarks int        `json:"total_benchmarks"`
	PassedCount     int        `json:"passed_count"`
	FailedCount     int        `json:"failed_count"`
	TotalTime       float      `json:"total_time_seconds"`
	Results         []result   `json:"results"`
	SystemInfo      systemInfo `json:"system_info"`
}

type result struct {
	TestName    string   `json:"test_name"`
	TestVersion string   `json:"test_version"`
	RunNumber   int      `json:"run_number"`
	Passed      bool     `json:"passed"`
	Metrics     any      `json:"metrics"`
	Errors      []string `json:"errors"`
	WarmupTimes []float  `json:"warmup_times"`
	Timestamp   stamp    `json:"timestamp"`
}

type throughputMetrics struct {
	Iterations int   `json:"total_iterations"`
	Tokens     int   `json:"total_tokens_generated"`
	Time       float `json:"total_time_seconds"`
	AvgTPS     float `json:"avg_tps"`
	MinTPS     float `json:"min_tps"`
	MaxTPS     float `json:"max_tps"`
	AvgLatency float `json:"avg_latency_ms"`
	P50Latency float `json:"p50_latency_ms"`
	P99Latency float `json:"p99_latency_ms"`
}

type latencyMetrics struct {
	Iterations int          `json:"total_iterations"`
	TTFT       distribution `json:"ttft_ms"`
	Total      distribution `json:"total_latency_ms"`
	PerToken   spread       `json:"per_token_ms"`
}

type distribution struct {
	Avg    float `json:"avg"`
	Min    float `json:"min"`
	Max    float `json:"max"`
	P50    float `json:"p50"`
	P95    float `json:"p95"`
	P99    float `json:"p99"`
	StdDev float `json:"std_dev"`
}

type spread struct {
	Avg float `json:"avg"`
	Min float `json:"min"`
	Max float `json:"max"`
}

type memoryMetrics struct {
	Measurements int        `json:"total_measurements"`
	Peak         float      `json:"overall_peak_gpu_memory_gb"`
	Avg          float      `json:"overall_avg_gpu_memory_gb"`
	PerPrompt    promptPeak `json:"per_prompt_peak_gb"`
	Range        float      `json:"memory_range_gb"`
}

type promptPeak struct {
	Short  float `json:"short"`
	Medium float `json:"medium"`
	Long   float `json:"long"`
}

type warmupMetrics struct {
	Iterations    int     `json:"total_iterations"`
	First         float   `json:"first_iteration_latency_ms"`
	SubsequentAvg float   `json:"subsequent_avg_latency_ms"`
	Reduction     float   `json:"latency_reduction_percent"`
	Stabilization int     `json:"stabilization_iteration"`
	Latencies     []float `json:"per_iteration_latencies_ms"`
}

type accuracyMetrics struct {
	Accuracy    float            `json:"accuracy"`
	Correct     int              `json:"correct"`
	Total       int              `json:"total"`
	PerSubject  map[string]float `json:"per_subject_accuracy,omitempty"`
	NumSubjects int              `json:"num_subjects,omitempty"`
	Errors      int              `json:"error_count"`
}

type systemInfo struct {
	GPU         *gpuInfo    `json:"gpu"`
	CPU         cpuInfo     `json:"cpu"`
	RAM         int         `json:"ram_gb"`
	RAMType     string      `json:"ram_type"`
	Storage     storageInfo `json:"storage"`
	CUDA        *string     `json:"cuda_version"`
	Driver      *string     `json:"driver_version"`
	OS          string      `json:"os"`
	Kernel      string      `json:"kernel"`
	Environment string      `json:"environment_type"`
}

type gpuInfo struct {
	Model             string `json:"model"`
	VRAM              int    `json:"vram_gb"`
	Count             int    `json:"count"`
	ComputeCapability []int  `json:"compute_capability"`
}

type cpuInfo struct {
	Model   string `json:"model"`
	Cores   int    `json:"cores"`
	Threads int    `json:"threads"`
}

type storageInfo struct {
	Brand string `json:"brand"`
	Model string `json:"model"`
	Type  string `json:"type"`
}

// systemInfo returns what metrics.json says of h. Its gigabytes are GiB, as
// KITT's are.
func (h Hardware) systemInfo() systemInfo {
	info := systemInfo{
		CPU:     cpuInfo{h.CPU, h.Cores, h.Threads},
		RAM:     int(math.Round(float64(h.RAMBytes) / gib)),
		RAMType: h.RAMType,
		Storage: storageInfo{h.DiskBrand, h.DiskModel, h.DiskType},
		OS:      h.OS, Kernel: h.Kernel, Environment: h.Environment,
	}
	if h.GPUs > 0 {
		info.GPU = &gpuInfo{Model: h.GPU.Model, VRAM: int(math.Round(float64(h.GPU.MemoryBytes) / gib)), Count: h.GPUs}
		if h.GPU.ComputeCapability != [2]int{} {
			info.GPU.ComputeCapability = h.GPU.ComputeCapability[:]
		}
		info.CUDA, info.Driver = &h.CUDA, &h.Driver
	}
	return info
}

// encode returns the bytes that json.dump(…, indent=2) of Python would write.
func (r *report) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// A float is written as Python writes one: with a fraction even where it is
// whole, so that a reader that tells integers from floats sees what it would
// see in a real file.
type float float64

func (f float) MarshalJSON() ([]byte, error) {
	text := strconv.AppendFloat(make([]byte, 0, 24), float64(f), 'f', -1, 64)
	if bytes.IndexByte(text, '.') < 0 {
		text = append(text, ".0"...)
	}
	return text, nil
}

// A stamp is written as datetime.isoformat() of Python writes local time.
type stamp time.Time

func (s stamp) MarshalJSON() ([]byte, error) {
	return time.Time(s).AppendFormat(make([]byte, 0, 32), `"2006-01-02T15:04:05.000000"`), nil
}

// round rounds to so many decimals.
func round(x float64, decimals int) float {
	scale := math.Pow10(decimals)
	return float(math.Round(x*scale) / scale)
}
