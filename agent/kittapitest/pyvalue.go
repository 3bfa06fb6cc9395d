package kittapitest

import (
	"math"
	"strconv"
	"strings"
)

// truthy returns what Python's bool() returns.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case num:
		return v.float() != 0
	case []any:
		return len(v) > 0
	case object:
		return len(v) > 0
	}
	return true
}

// whole reports whether n was written as an integer.
func (n num) whole() bool { return !strings.ContainsAny(string(n), ".eENI") }

// float returns n as a float64, which is infinite if n is out of range.
func (n num) float() float64 {
	f, _ := strconv.ParseFloat(string(n), 64)
	return f
}

// str returns what Python's str() returns, for the values that were recorded.
func str(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	case num:
		return string(v)
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = str(element)
			if _, text := element.(string); text {
				parts[i] = "'" + parts[i] + "'"
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return dump(encode(v))
}

// toInt returns what Python's int() returns, and whether it accepts v.
func toInt(v any) (int64, bool) {
	switch v := v.(type) {
	case num:
		if f := v.float(); !v.whole() {
			return int64(f), math.Abs(f) < 1<<63
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// bindable reports whether SQLite accepts v as a value.
func bindable(v any) bool {
	switch v := v.(type) {
	case nil, bool:
		return true
	case string:
		return !strings.Contains(v, loneSurrogate)
	case num:
		_, err := strconv.ParseInt(string(v), 10, 64)
		return err == nil || !v.whole()
	}
	return false
}

// column returns v as a text column stores it, nil for NULL.
func column(v any) any {
	if n, ok := v.(num); ok {
		return string(n)
	}
	return v
}

// plain returns v in the types of encoding/json, with NaN and infinities as
// float64.
func plain(v any) any {
	switch v := v.(type) {
	case num:
		return v.float()
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = plain(element)
		}
		return list
	case object:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = plain(value)
		}
		return m
	}
	return v
}
