package kittapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// MaxMetrics is the size in bytes beyond which [ReadMetrics] refuses a file.
const MaxMetrics = 16 << 20

// ReadMetrics reads a metrics.json as Python's json module writes it. It gives
// texts, float64, bool, nil, map[string]any and []any, as encoding/json does.
//
// NaN, Infinity and -Infinity, and numbers beyond a float64's range, become nil
// where a KITT server takes null; where it doesn't (see [CleanResult]) they are
// left out. Lone surrogates become U+FFFD. The error says what is wrong with a
// file that is no JSON object, is cut short, is larger than [MaxMetrics] or is
// nested more than 64 deep.
func ReadMetrics(r io.Reader) (map[string]any, error) {
	src, err := io.ReadAll(io.LimitReader(r, MaxMetrics+1))
	if err != nil {
		return nil, err
	}
	if len(src) > MaxMetrics {
		return nil, fmt.Errorf("it is larger than %d MiB", MaxMetrics>>20)
	}
	src = bytes.TrimPrefix(src, []byte("\xEF\xBB\xBF"))
	// A number that no float64 holds marks the place of one that is none.
	src, depth := strict(src, "1e999")
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	var data map[string]any
	if err := dec.Decode(&data); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it is empty or cut short")
		}
		return nil, err
	}
	if data == nil {
		return nil, errors.New("it holds null in place of an object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows its object")
	}
	finite(data)
	return data, nil
}

// finite turns the numbers of a file into float64, and settles those that are
// none.
func finite(data map[string]any) {
	floats(data)
	for _, keys := range [][]string{runTexts, runNumbers, {"results"}} {
		dropNaN(data, keys)
	}
	if list, ok := data["results"].([]any); ok {
		list = slices.DeleteFunc(list, isNaN)
		for _, element := range list {
			if bench, ok := element.(map[string]any); ok {
				dropNaN(bench, benchTexts)
				dropNaN(bench, []string{"run_number", "metrics"})
			}
		}
		data["results"] = list
	}
	null(data)
}

// dropNaN leaves out those of the keys that hold a number that is none.
func dropNaN(m map[string]any, keys []string) {
	for _, key := range keys {
		if isNaN(m[key]) {
			delete(m, key)
		}
	}
}

func isNaN(v any) bool {
	f, ok := v.(float64)
	return ok && math.IsNaN(f)
}

// floats returns v with its numbers as float64, NaN for those beyond the range.
func floats(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return math.NaN()
		}
		return f
	case map[string]any:
		for key, value := range v {
			v[key] = floats(value)
		}
	case []any:
		for i, value := range v {
			v[i] = floats(value)
		}
	}
	return v
}

// null returns v with nil in place of NaN.
func null(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) {
			return nil
		}
	case map[string]any:
		for key, value := range v {
			v[key] = null(value)
		}
	case []any:
		for i, value := range v {
			v[i] = null(value)
		}
	}
	return v
}
