package kittapitest

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// truthy reports what Python's bool() says.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case num:
		f, _ := v.float()
		return f != 0
	case []any:
		return len(v) > 0
	case *object:
		return len(v.keys) > 0
	}
	return true
}

// whole reports whether n was written as an integer.
func (n num) whole() bool { return !strings.ContainsAny(string(n), ".eENI") }

// float returns n's value and whether a double holds it.
func (n num) float() (float64, bool) {
	f, err := strconv.ParseFloat(string(n), 64)
	if n.whole() {
		return f, err == nil
	}
	return f, true // 1e999 is infinity to Python
}

// pyFloat returns a float as Python's repr writes it.
func pyFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// str returns what Python's str() makes of v.
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
		if v.whole() {
			return string(v)
		}
		f, _ := v.float()
		return pyFloat(f)
	}
	return repr(v)
}

// repr returns what Python's repr() makes of v.
func repr(v any) string {
	switch v := v.(type) {
	case string:
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			return `"` + v + `"`
		}
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(v) + "'"
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = repr(element)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *object:
		parts := make([]string, len(v.keys))
		for i, key := range v.keys {
			parts[i] = repr(key) + ": " + repr(v.values[key])
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return str(v)
}

// toInt returns what Python's int() makes of v, and whether it takes it.
func toInt(v any) (*big.Int, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case num:
		if v.whole() {
			return new(big.Int).SetString(string(v), 10)
		}
		f, _ := v.float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, false
		}
		n, _ := big.NewFloat(f).Int(nil)
		return n, true
	case string:
		s := strings.TrimSpace(v)
		if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
			return nil, false
		}
		return new(big.Int).SetString(strings.ReplaceAll(s, "_", ""), 10)
	}
	return nil, false
}

// bindable reports whether SQLite takes v as a value.
func bindable(v any) bool {
	switch v := v.(type) {
	case nil, bool:
		return true
	case string:
		return utf8.ValidString(v)
	case num:
		if !v.whole() {
			return true
		}
		_, err := strconv.ParseInt(string(v), 10, 64)
		return err == nil
	}
	return false
}

// column returns v as a column of texts keeps it, nil for NULL.
func column(v any) any {
	switch v := v.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case num:
		return str(v)
	}
	return v
}

// plain returns v in the types of encoding/json, with NaN and infinities as
// float64.
func plain(v any) any {
	switch v := v.(type) {
	case num:
		switch v {
		case "NaN":
			return math.NaN()
		case "Infinity":
			return math.Inf(1)
		case "-Infinity":
			return math.Inf(-1)
		}
		f, _ := v.float()
		return f
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = plain(element)
		}
		return list
	case *object:
		m := make(map[string]any, len(v.keys))
		for key, value := range v.values {
			m[key] = plain(value)
		}
		return m
	}
	return v
}
