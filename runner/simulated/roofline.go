package simulated

import (
	"fmt"
	"math"
	"time"
)

// The assumptions of the performance model; see the package comment.
const (
	// bandwidthUse is the share of a memory's peak that decoding reaches at
	// batch size 1: what Databricks' "LLM Inference Performance Engineering:
	// Best Practices" (2023) calls MBU and reports near 0.6 for one request.
	bandwidthUse = 0.60

	// computeUse is the share of peak FLOPS that prefill reaches: of the order
	// that PaLM inference had in arXiv:2211.05102.
	computeUse = 0.50

	// requestOverhead is what HTTP and the engine's scheduler add before the
	// first token. A plain assumption.
	requestOverhead = 2 * time.Millisecond

	// gpuContextBytes is what a CUDA context and the kernels' work space take
	// on each GPU. A plain assumption.
	gpuContextBytes = 0.75 * gib

	// kvContext is the number of tokens that the key-value cache is made for.
	kvContext = 4096

	// coreFLOPS is the peak of one CPU core: 3 GHz, two 256-bit FMA units.
	coreFLOPS = 96e9
)

// A machine is a model on a piece of hardware.
type machine struct {
	model
	onGPU     bool
	gpus      int     // that the model is spread over
	memory    float64 // bytes of those, or of the RAM
	need      float64 // bytes that the model needs there
	bandwidth float64 // bytes/s
	flops     float64
}

// place puts m on h: over as few GPUs as hold it, layer by layer, which is what
// ollama and llama.cpp do. A token then passes one GPU after the other, so that
// more GPUs hold more but are no faster.
func place(m model, h Hardware) machine {
	p := machine{model: m, memory: float64(h.RAMBytes), bandwidth: h.RAMBandwidth, flops: coreFLOPS * float64(h.Cores)}
	p.need = m.weightBytes() + m.kvBytes(kvContext) + gpuContextBytes
	if h.GPUs == 0 {
		return p
	}
	p.onGPU, p.bandwidth, p.flops = true, h.GPU.Bandwidth, h.GPU.FLOPS
	for p.gpus = 1; ; p.gpus++ {
		p.memory = float64(p.gpus) * float64(h.GPU.MemoryBytes)
		p.need = m.weightBytes() + m.kvBytes(kvContext) + float64(p.gpus)*gpuContextBytes
		if p.fits() || p.gpus == h.GPUs {
			return p
		}
	}
}

func (m model) weightBytes() float64 { return m.params * m.bits / 8 }

// kvBytes is the key-value cache of tokens. Llama 3's 8B needs 128 KiB a token
// and its 70B 320 KiB (layers × 8 key-value heads × 128 × 2 × 2 bytes,
// arXiv:2407.21783, table 3): near the square root of the size.
func (m model) kvBytes(tokens float64) float64 {
	return tokens * 131072 * math.Sqrt(m.params/8e9)
}

func (p machine) fits() bool { return p.need <= p.memory }

// shortage says how far the model is from fitting.
func (p machine) shortage() string {
	return fmt.Sprintf("the model needs %.1f GiB and there are %.1f GiB", p.need/gib, p.memory/gib)
}

// perToken is the time that decoding one token takes: every active weight is
// read once (bandwidth-bound).
func (p machine) perToken() float64 {
	return p.active * p.bits / 8 / (p.bandwidth * bandwidthUse)
}

// firstToken is the time from a request of so many prompt tokens to its first
// token: two operations a weight and token (compute-bound), though never less
// than reading the weights once, which is the roof over short prompts.
func (p machine) firstToken(prompt int) float64 {
	return max(2*p.active*float64(prompt)/(p.flops*computeUse), p.perToken())
}
