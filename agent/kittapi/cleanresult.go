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

// maxDepth is how deep objects and lists in result data can be nested. Python's
// parser fails at about a thousand.
const maxDepth = 64

// maxNotes is the largest number of notes for one result, so that an invalid file
// doesn't fill a log.
const maxNotes = 50

// The keys that the server stores in columns, which must have the right type. It
// stores all other result data as JSON.
var (
	runTexts   = []string{"engine", "kitt_version", "model", "suite_name", "timestamp"}
	runNumbers = []string{"failed_count", "passed_count", "total_benchmarks", "total_time_seconds"}

	benchTexts = []string{"test_name", "test_version", "timestamp"}

	gpuPlain    = []string{"count", "model", "vram_gb"}
	cpuPlain    = []string{"cores", "model"}
	systemPlain = []string{"environment_type", "fingerprint", "ram_gb"}
)

// CleanResult returns a copy of result data that a KITT server can store, and a
// sentence for each change. The server fails on invalid data and leaves its database
// locked for every agent. CleanResult does not modify data. It returns nil for empty
// data.
//
// Values with a column in the server's database are converted if no information is
// lost, and otherwise removed:
//
//   - model, engine, suite_name, timestamp and kitt_version are strings;
//   - passed_count, failed_count, total_benchmarks and total_time_seconds are numbers
//     within 64 bits;
//   - results is a list of objects, in which test_name, test_version and timestamp
//     are strings, run_number is a whole number and metrics is an object;
//   - system_info is an object, with objects or null as gpu and cpu.
//
// NaN and infinities become null where the server accepts null. Strings become valid
// UTF-8. Maps, slices and structs become maps and lists that package json decodes to.
// Cleaning clean data changes nothing.
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
		c.notes = append(c.notes, fmt.Sprintf("%d more changes", c.left))
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

// drop removes a key.
func (c *cleaner) drop(m map[string]any, where, key, why string) {
	delete(m, key)
	c.note("%s removed: %s", name(where, key), why)
}

// texts makes the named keys strings or removes them.
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
			c.note("%s converted to a text", name(where, key))
		case float64, int64, uint64:
			text, err := json.Marshal(v)
			if err != nil {
				c.drop(m, where, key, "it should be a text")
				continue
			}
			m[key] = string(text)
			c.note("%s converted to a text", name(where, key))
		default:
			c.drop(m, where, key, "it should be a text")
		}
	}
}

// numbers removes the named keys unless they are numbers within 64 bits.
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
		// JSON has a whole number without a point, which the server parses as an
		// integer.
		return v >= math.MinInt64 && v < math.MaxInt64
	}
	return false
}

// results makes results a list of objects with columns of the right type.
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
			c.note("%s removed: it should be an object", where)
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

// system makes system_info an object with columns of the right type.
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

// part removes a part of system_info unless it is an object or null.
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

// plainValues removes the named keys if their values cannot be stored in a column.
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
		c.note("%s set to null: it is nested too deeply", printable(where))
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
			break // bytes, which package json encodes as a string
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

// object returns a copy of a map with strings as keys.
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

// encoded encodes a value of any other type as JSON and returns the decoded value.
func (c *cleaner) encoded(v reflect.Value, where string, depth int) any {
	var value any
	text, err := json.Marshal(v.Interface())
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		c.note("%s set to null: it cannot be encoded as JSON", printable(where))
		return nil
	}
	return c.plain(reflect.ValueOf(value), where, depth+1)
}

// float returns f, or nil for NaN and infinities, which JSON doesn't have.
func (c *cleaner) float(f float64, where string) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.note("%s set to null: %v is not a number in JSON", printable(where), f)
		return nil
	}
	return f
}

// number returns the value of a JSON number.
func (c *cleaner) number(text, where string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		c.note("%s set to null: it is not a number within 64 bits", printable(where))
		return nil
	}
	return c.float(f, where)
}
