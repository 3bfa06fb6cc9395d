package kittapi

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxDepth is how deep objects and lists may be nested in result data. Python's
// parser gives up at about a thousand.
const maxDepth = 64

// maxNotes bounds the notes on one result, so that a broken file doesn't fill a
// log.
const maxNotes = 50

// What the server stores in columns, and so must have the right form. Anything
// else in result data is only kept as JSON.
var (
	runTexts   = []string{"engine", "kitt_version", "model", "suite_name", "timestamp"}
	runNumbers = []string{"failed_count", "passed_count", "total_benchmarks", "total_time_seconds"}

	benchTexts = []string{"test_name", "test_version", "timestamp"}

	gpuPlain    = []string{"count", "model", "vram_gb"}
	cpuPlain    = []string{"cores", "model"}
	systemPlain = []string{"environment_type", "fingerprint", "ram_gb"}
)

// CleanResult returns result data mended so that a KITT server can store it, and
// a sentence for each thing that it changed. Data of the wrong shape does not
// only fail: it leaves the server's database locked for every agent. data itself
// is left as it was; nil or empty data stays so.
//
// What has a column at the server is turned into its form where that can be done
// without loss, and else left out: model, engine, suite_name, timestamp and
// kitt_version are texts, the counts numbers within 64 bits, results a list of
// objects, their test_name, test_version and timestamp texts, run_number a whole
// number, metrics an object, system_info an object with gpu and cpu objects or
// null. NaN and infinities become null where null is safe. Texts become valid
// UTF-8, maps, slices and structs of other types plain ones.
//
// Cleaning what is clean changes nothing.
func CleanResult(data map[string]any) (clean map[string]any, notes []string) {
	if len(data) == 0 {
		return nil, nil
	}
	c := &cleaner{}
	plain, _ := c.plain(reflect.ValueOf(data), "result", 0).(map[string]any)
	c.texts(plain, "", runTexts)
	c.numbers(plain, "", runNumbers)
	c.results(plain)
	c.system(plain)
	if c.left > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d more things were changed", c.left))
	}
	if len(plain) == 0 {
		plain = nil
	}
	return plain, c.notes
}

type cleaner struct {
	notes []string
	left  int // notes beyond maxNotes
}

func (c *cleaner) note(format string, args ...any) {
	if len(c.notes) == maxNotes {
		c.left++
		return
	}
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// name returns the name of a key for a note.
func name(where, key string) string { return printable(where + key) }

// drop leaves a key out.
func (c *cleaner) drop(m map[string]any, where, key, why string) {
	delete(m, key)
	c.note("%s is left out: %s", name(where, key), why)
}

// texts makes sure that the named keys are texts or absent.
func (c *cleaner) texts(m map[string]any, where string, keys []string) {
	for _, key := range keys {
		value, ok := m[key]
		if !ok {
			continue
		}
		switch v := value.(type) {
		case string:
		case bool:
			m[key] = strconv.FormatBool(v)
			c.note("%s was no text and is sent as one", name(where, key))
		case float64, int64, uint64:
			text, err := json.Marshal(v)
			if err != nil {
				c.drop(m, where, key, "it should be a text")
				continue
			}
			m[key] = string(text)
			c.note("%s was no text and is sent as one", name(where, key))
		default:
			c.drop(m, where, key, "it should be a text")
		}
	}
}

// numbers makes sure that the named keys are numbers within 64 bits or absent.
func (c *cleaner) numbers(m map[string]any, where string, keys []string) {
	for _, key := range keys {
		if value, ok := m[key]; ok && !storable(value) {
			c.drop(m, where, key, "it should be a number within 64 bits")
		}
	}
}

// storable reports whether v is a number that fits a column of 64 bits.
func storable(v any) bool {
	switch v := v.(type) {
	case int64:
		return true
	case uint64:
		return v <= math.MaxInt64
	case float64:
		// A whole number is written without a point, so the server takes it for
		// an integer.
		return v >= math.MinInt64 && v < math.MaxInt64
	}
	return false
}

// results makes sure that results is a list of objects whose columns have the
// right form.
func (c *cleaner) results(m map[string]any) {
	value, ok := m["results"]
	if !ok {
		return
	}
	list, ok := value.([]any)
	if !ok {
		c.drop(m, "", "results", "it should be a list")
		return
	}
	kept := make([]any, 0, len(list))
	for i, element := range list {
		where := "results[" + strconv.Itoa(i) + "]"
		bench, ok := element.(map[string]any)
		if !ok {
			c.note("%s is left out: it should be an object", where)
			continue
		}
		c.bench(bench, where+".")
		kept = append(kept, bench)
	}
	m["results"] = kept
}

func (c *cleaner) bench(bench map[string]any, where string) {
	c.texts(bench, where, benchTexts)
	if value, ok := bench["run_number"]; ok {
		whole := storable(value)
		if f, ok := value.(float64); ok && f != math.Trunc(f) {
			whole = false
		}
		if !whole {
			c.drop(bench, where, "run_number", "it should be a whole number within 64 bits")
		}
	}
	if value, ok := bench["metrics"]; ok {
		if _, ok := value.(map[string]any); !ok {
			c.drop(bench, where, "metrics", "it should be an object")
		}
	}
}

// system makes sure that system_info is an object whose columns have the right
// form.
func (c *cleaner) system(m map[string]any) {
	value, ok := m["system_info"]
	if !ok || value == nil {
		return
	}
	info, ok := value.(map[string]any)
	if !ok {
		c.drop(m, "", "system_info", "it should be an object")
		return
	}
	c.plainValues(info, "system_info.", systemPlain)
	c.part(info, "gpu", gpuPlain)
	c.part(info, "cpu", cpuPlain)
}

// part makes sure that a part of system_info is an object or null.
func (c *cleaner) part(info map[string]any, part string, keys []string) {
	value, ok := info[part]
	if !ok || value == nil {
		return
	}
	object, ok := value.(map[string]any)
	if !ok {
		c.drop(info, "system_info.", part, "it should be an object")
		return
	}
	c.plainValues(object, "system_info."+part+".", keys)
}

// plainValues makes sure that the named keys hold no object, list or number that
// no column can take.
func (c *cleaner) plainValues(m map[string]any, where string, keys []string) {
	for _, key := range keys {
		switch value := m[key].(type) {
		case nil, string, bool:
		default:
			if !storable(value) {
				c.drop(m, where, key, "it should be a text or a number within 64 bits")
			}
		}
	}
}

// plain returns a copy of v made of map[string]any, []any, string, float64,
// int64, uint64, bool and nil, all of which can be encoded.
func (c *cleaner) plain(v reflect.Value, where string, depth int) any {
	if depth > maxDepth {
		c.note("%s is left empty: it is nested too deeply", printable(where))
		return nil
	}
	if !v.IsValid() {
		return nil
	}
	if v.Type() == reflect.TypeFor[json.Number]() {
		return c.number(v.String(), where)
	}
	if _, ok := v.Interface().(json.Marshaler); ok {
		return c.encoded(v, where, depth)
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return c.plain(v.Elem(), where, depth+1)
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return strings.ToValidUTF8(v.String(), "\uFFFD")
	case reflect.Float32, reflect.Float64:
		return c.float(v.Float(), where)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return v.Uint()
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			break // bytes, which JSON has a text for
		}
		if v.Kind() == reflect.Slice && v.IsNil() {
			return nil
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = c.plain(v.Index(i), fmt.Sprintf("%s[%d]", where, i), depth+1)
		}
		return list
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return c.object(v, where, depth)
		}
	}
	return c.encoded(v, where, depth)
}

// object returns a copy of a map with texts as keys.
func (c *cleaner) object(v reflect.Value, where string, depth int) any {
	if v.IsNil() {
		return nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	object := make(map[string]any, len(keys))
	for _, key := range keys {
		at := key.String()
		if depth > 0 {
			at = where + "." + at
		}
		object[strings.ToValidUTF8(key.String(), "\uFFFD")] = c.plain(v.MapIndex(key), at, depth+1)
	}
	return object
}

// encoded returns what becomes of a value of any other type on its way through
// JSON.
func (c *cleaner) encoded(v reflect.Value, where string, depth int) any {
	text, err := json.Marshal(v.Interface())
	if err != nil {
		c.note("%s is left empty: it cannot be written as JSON", printable(where))
		return nil
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		c.note("%s is left empty: it cannot be written as JSON", printable(where))
		return nil
	}
	return c.plain(reflect.ValueOf(value), where, depth+1)
}

// float returns f, or nil for NaN and infinities, which JSON has no words for.
func (c *cleaner) float(f float64, where string) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.note("%s is left empty: %v is no number that JSON knows", printable(where), f)
		return nil
	}
	return f
}

// number returns the value of a number as JSON writes it.
func (c *cleaner) number(text, where string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		c.note("%s is left empty: it is no number that fits 64 bits", printable(where))
		return nil
	}
	return c.float(f, where)
}
