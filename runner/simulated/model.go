package simulated

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// A model is what a language model's name tells of it.
type model struct {
	params float64 // all weights
	active float64 // weights that one token uses; fewer than params in a mixture of experts
	bits   float64 // stored bits per weight, scales included
}

// Models whose name tells no size are taken for 7 billion parameters, and those
// that tell no quantisation for 16 bits, except that engine "ollama" gives
// Q4_K_M, as the plain tags of its library do.
const (
	defaultParams = 7e9
	maxParams     = 1e13
	sixteenBits   = 16
	ollamaQuant   = "q4_k_m"
)

// quantBits are the stored bits per weight of the quantisations that names
// speak of. For llama.cpp's mixed ones they are what its quantize tool's README
// measured on Llama 3.1 8B; for its plain ones, and for MXFP4 and NVFP4, they
// follow from the block format (Q4_0: 32 weights of 4 bits and one FP16 scale).
// AWQ, GPTQ and 4-bit integers have groups of 128 with a scale and a zero point
// and leave the embeddings alone, NF4 is that of QLoRA (arXiv:2305.14314).
var quantBits = map[string]float64{
	"iq1_s": 2.00, "iq1_m": 2.15, "iq2_xxs": 2.38, "iq2_xs": 2.59, "iq2_s": 2.74, "iq2_m": 2.93,
	"iq3_xxs": 3.25, "iq3_xs": 3.50, "iq3_s": 3.66, "iq3_m": 3.76, "iq4_xs": 4.46, "iq4_nl": 4.68,
	"q2_k": 3.16, "q3_k_s": 3.64, "q3_k_m": 4.00, "q3_k_l": 4.30, "q4_k_s": 4.67, "q4_k_m": 4.89,
	"q5_k_s": 5.57, "q5_k_m": 5.70, "q6_k": 6.56, "q8_0": 8.50,
	"q4_0": 4.5, "q4_1": 5.0, "q5_0": 5.5, "q5_1": 6.0,
	"awq": 4.25, "gptq": 4.25, "int4": 4.25, "w4a16": 4.25, "4bit": 4.5, "nf4": 4.5,
	"mxfp4": 4.25, "nvfp4": 4.5, "fp4": 4.5,
	"fp8": 8, "int8": 8, "w8a8": 8, "8bit": 8,
	"bf16": 16, "fp16": 16, "f16": 16, "fp32": 32, "f32": 32,
}

// parseModel reads a model's name or path, from its last element up to the
// first that tells a size: "8B", "0.5b", "350m", "1T", "8x7B", "30B-A3B" (3
// billion active). It never fails: what the name doesn't tell has a default.
func parseModel(name, engine string) model {
	m := model{bits: sixteenBits}
	if engine == "ollama" {
		m.bits = quantBits[ollamaQuant]
	}
	for rest := strings.TrimRight(name, "/"); rest != ""; rest = strings.TrimRight(path.Dir(rest), "/") {
		w := words(path.Base(rest))
		if bits, ok := findBits(w); ok {
			m.bits = bits
		}
		if m.params, m.active = findParams(w); m.params > 0 {
			return m
		}
		if path.Dir(rest) == "." {
			break
		}
	}
	m.params, m.active = defaultParams, defaultParams
	return m
}

// words splits a name into its lower-case runs of letters and digits; a dot
// between two digits belongs to the word.
func words(name string) []string {
	name = strings.ToLower(name)
	digit := func(i int) bool { return i >= 0 && i < len(name) && name[i] >= '0' && name[i] <= '9' }
	var out []string
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) {
			c := name[i]
			if c >= 'a' && c <= 'z' || digit(i) || c == '.' && digit(i-1) && digit(i+1) {
				continue
			}
		}
		if i > start {
			out = append(out, name[start:i])
		}
		start = i + 1
	}
	return out
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// findParams returns all and the active parameters that words tell, or zeros.
//
// In "8x7B" the experts share the attention layers and two of them work on each
// token: Mixtral 8x7B has 46.7 billion parameters of which 12.9 are active,
// 8x22B has 141 and 39 (arXiv:2401.04088 and its authors' model cards).
func findParams(words []string) (params, active float64) {
	for i, w := range words {
		if experts, each, ok := strings.Cut(w, "x"); ok && params == 0 {
			n, err := strconv.Atoi(experts)
			if p := size(each); err == nil && n >= 2 && n <= 1024 && p > 0 {
				params = min(0.82*float64(n)*p, maxParams)
				active = min(1.8*p, params)
			}
			continue
		}
		if p := size(w); p > 0 && params == 0 {
			params, active = p, p
		}
		if a, ok := strings.CutPrefix(w, "a"); ok && i > 0 && params > 0 {
			if p := size(a); p > 0 && p < params {
				active = p
			}
		}
	}
	return params, active
}

// size reads a count of parameters such as 8b, 0.5b, 350m or 1t, zero if word
// is none between a million and maxParams.
func size(word string) float64 {
	if len(word) < 2 || word[0] < '0' || word[0] > '9' {
		return 0
	}
	unit := map[byte]float64{'m': 1e6, 'b': 1e9, 't': 1e12}[word[len(word)-1]]
	n, err := strconv.ParseFloat(word[:len(word)-1], 64)
	if p := n * unit; err == nil && between(p, 1e6, maxParams) {
		return p
	}
	return 0
}

// findBits returns the bits per weight that words tell. A quantisation's name
// is up to three words long (q4, k, m), and the longest one counts.
func findBits(words []string) (float64, bool) {
	for i, w := range words {
		if text, ok := strings.CutSuffix(w, "bpw"); ok {
			if bits, err := strconv.ParseFloat(text, 64); err == nil && between(bits, 1, 32) {
				return bits, true
			}
		}
		for n := min(3, len(words)-i); n > 0; n-- {
			if bits, ok := quantBits[strings.Join(words[i:i+n], "_")]; ok {
				if w == "gptq" && slices.Contains(words, "int8") {
					continue
				}
				return bits, true
			}
		}
	}
	return 0, false
}
