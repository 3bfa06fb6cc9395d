package kittapi

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/kirizan/kitt-agent/runner"
)

// What the server takes in result data, by key. Anything else under these keys
// would break it: see CleanResult.
var (
	textKeys     = []string{"model", "engine", "suite_name", "timestamp", "kitt_version"}
	countKeys    = []string{"total_benchmarks", "passed_count", "failed_count", "total_time_seconds"}
	testTextKeys = []string{"test_name", "test_version", "timestamp"}
	plainKeys    = []string{"environment_type", "fingerprint", "ram_gb"}
	partKeys     = []string{"model", "vram_gb", "count", "cores", "threads"}
)

// maxDepth is how deep result data may be nested.
const maxDepth = 100

// CleanResult returns result data that a KITT server can store, and a sentence
// for each thing that was changed. data stays as it was.
//
// The rules are those that were found out about KITT 1.7: texts are texts, counts
// are numbers of at most 64 bits, results is a list of objects, their metrics are
// objects, system_info and what it holds of gpu and cpu are objects or null. What
// breaks them is left out, since a server that meets it fails, and may go on
// failing for every other agent. Numbers that JSON doesn't have (NaN) become
// null within metrics, where that is safe, and are left out elsewhere. Everything
// else is kept as it is.
func CleanResult(data map[string]any) (clean map[string]any, notes []string) {
	if data == nil {
		return nil, nil
	}
	c := &cleaner{}
	clean, _ = c.copy("", data, 0).(map[string]any)
	c.keep(clean, "", textKeys, isText, "a text")
	c.keep(clean, "", countKeys, isCount, "a number of at most 64 bits")
	c.results(clean)
	c.systemInfo(clean)
	return clean, c.notes
}

type cleaner struct{ notes []string }

func (c *cleaner) note(format string, args ...any) {
	const most = 20
	switch n := len(c.notes); {
	case n < most:
		c.notes = append(c.notes, fmt.Sprintf(format, args...))
	case n == most:
		c.notes = append(c.notes, "and more of the kind")
	}
}

// copy returns a deep copy of v with plain JSON values in it.
func (c *cleaner) copy(path string, v any, depth int) any {
	if depth > maxDepth {
		c.note("%s is nested too deeply and left out", clip(path))
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, each := range v {
			out[key] = c.copy(path+"."+key, each, depth+1)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, each := range v {
			out[i] = c.copy(path, each, depth+1)
		}
		return out
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v
	case nil, bool, string:
		return v
	}
	return c.convert(path, v, depth)
}

// convert takes Go values of other kinds through JSON.
func (c *cleaner) convert(path string, v any, depth int) any {
	text, err := json.Marshal(v)
	if err != nil {
		c.note("%s is no value that JSON has and left out", clip(path))
		return nil
	}
	plain, err := runner.DecodeLenient(text)
	if err != nil {
		c.note("%s is left out: %v", clip(path), err)
		return nil
	}
	switch plain.(type) {
	case map[string]any, []any:
		return c.copy(path, plain, depth+1)
	}
	return plain
}

// keep leaves out those of the keys whose values are not ok.
func (c *cleaner) keep(m map[string]any, where string, keys []string, ok func(any) bool, what string) {
	for _, key := range keys {
		v, there := m[key]
		if !there || ok(v) {
			continue
		}
		if v != nil { // null stands for nothing, so nothing is lost
			c.note("%s%s is left out: it is not %s", where, key, what)
		}
		delete(m, key)
	}
}

func isText(v any) bool { _, ok := v.(string); return ok }

// isCount reports whether v is a number that 64 bits hold.
func isCount(v any) bool {
	f, ok := v.(float64)
	return ok && math.Abs(f) < 1<<63
}

func isWhole(v any) bool { return isCount(v) && v.(float64) == math.Trunc(v.(float64)) }

func isPlain(v any) bool {
	switch v := v.(type) {
	case string, bool, nil:
		return true
	case float64:
		return math.Abs(v) < 1<<63
	}
	return false
}

// results keeps the rules of the list of results.
func (c *cleaner) results(m map[string]any) {
	v, there := m["results"]
	if !there {
		return
	}
	list, ok := v.([]any)
	if !ok {
		if v != nil {
			c.note("results is left out: it is not a list")
		}
		delete(m, "results")
		return
	}
	kept := slices.DeleteFunc(list, func(each any) bool {
		_, ok := each.(map[string]any)
		return !ok
	})
	if n := len(list) - len(kept); n > 0 {
		c.note("%d of results are left out: they are not objects", n)
	}
	for i, each := range kept {
		test := each.(map[string]any)
		where := fmt.Sprintf("results[%d].", i)
		c.keep(test, where, testTextKeys, isText, "a text")
		c.keep(test, where, []string{"run_number"}, isWhole, "a whole number of at most 64 bits")
		c.keep(test, where, []string{"metrics"}, isObject, "an object")
	}
	m["results"] = kept
}

func isObject(v any) bool { _, ok := v.(map[string]any); return ok }

func isObjectOrNull(v any) bool { return v == nil || isObject(v) }

// systemInfo keeps the rules of the description of the machine.
func (c *cleaner) systemInfo(m map[string]any) {
	c.keep(m, "", []string{"system_info"}, isObjectOrNull, "an object")
	info, ok := m["system_info"].(map[string]any)
	if !ok {
		return
	}
	c.keep(info, "system_info.", []string{"gpu", "cpu"}, isObjectOrNull, "an object")
	c.keep(info, "system_info.", plainKeys, isPlain, "a plain value")
	for _, key := range []string{"gpu", "cpu"} {
		if part, ok := info[key].(map[string]any); ok {
			c.keep(part, "system_info."+key+".", partKeys, isPlain, "a plain value")
		}
	}
}
