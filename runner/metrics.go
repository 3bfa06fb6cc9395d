package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Bounds of metrics.json. Real ones have some kilobytes and are five deep.
const (
	maxMetrics      = 8 << 20 // bytes
	maxMetricsDepth = 100
)

// ReadMetrics reads metrics.json as `kitt run` writes it: see [DecodeLenient].
func ReadMetrics(r io.Reader) (map[string]any, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMetrics+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxMetrics {
		return nil, fmt.Errorf("it is larger than %d MiB", maxMetrics>>20)
	}
	v, err := DecodeLenient(text)
	if err != nil {
		return nil, err
	}
	metrics, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("it is no JSON object")
	}
	return metrics, nil
}

// DecodeLenient decodes JSON as Python's json module writes it, which is not
// always JSON: NaN, Infinity and -Infinity become nil, as do numbers that no
// float64 holds, and a lone surrogate becomes U+FFFD. Numbers are float64.
// Values that are more than a hundred levels deep are an error.
func DecodeLenient(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(withoutNaN(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("it is not JSON: something follows the value")
	}
	return numbers(v, 0)
}

// numbers returns v with its numbers as float64.
func numbers(v any, depth int) (any, error) {
	if depth > maxMetricsDepth {
		return nil, fmt.Errorf("it is more than %d levels deep", maxMetricsDepth)
	}
	var err error
	switch v := v.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil || math.IsInf(f, 0) {
			return nil, nil
		}
		return f, nil
	case map[string]any:
		for key, each := range v {
			if v[key], err = numbers(each, depth+1); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, each := range v {
			if v[i], err = numbers(each, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// notNumbers are the words that Python writes in place of numbers, the longest
// first.
var notNumbers = [][]byte{[]byte("-Infinity"), []byte("Infinity"), []byte("NaN")}

// withoutNaN returns text with null in place of what is no number, outside of
// strings.
func withoutNaN(text []byte) []byte {
	if !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")) {
		return text
	}
	out := make([]byte, 0, len(text))
	inString := false
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case inString && c == '\\' && i+1 < len(text):
			out = append(out, c, text[i+1])
			i += 2
			continue
		case c == '"':
			inString = !inString
		case !inString:
			if word := notNumber(text[i:]); word > 0 {
				out = append(out, "null"...)
				i += word
				continue
			}
		}
		out = append(out, c)
		i++
	}
	return out
}

// notNumber returns the length of the word that text begins with if it stands
// in place of a number, and 0 otherwise.
func notNumber(text []byte) int {
	for _, word := range notNumbers {
		if bytes.HasPrefix(text, word) {
			return len(word)
		}
	}
	return 0
}
