package kittapitest

import (
	"fmt"
	"strings"
)

// A field is one field of a body that the server checks.
type field struct {
	name     string
	check    func(v any) (any, string)
	fallback any // nil: required
}

var registrationFields = []field{
	{"name", asText, nil},
	{"hostname", asText, nil},
	{"port", asInt, num("8090")},
	{"gpu_info", asText, ""},
	{"gpu_count", asInt, num("0")},
	{"cpu_info", asText, ""},
	{"cpu_arch", asText, ""},
	{"ram_gb", asInt, num("0")},
	{"environment_type", asText, ""},
	{"fingerprint", asText, ""},
	{"kitt_version", asText, ""},
	{"capabilities", asTexts, []any{}},
	{"hardware_details", asText, ""},
}

var beatFields = []field{
	{"status", asText, "idle"},
	{"current_task", asText, ""},
	{"gpu_utilization_pct", asFloat, num("0.0")},
	{"gpu_memory_used_gb", asFloat, num("0.0")},
	{"storage_gb_free", asFloat, num("0.0")},
	{"uptime_s", asFloat, num("0.0")},
	{"engines", asObjects, []any{}},
}

// check returns body with the model's fields in their types and nothing else, or
// the text of pydantic 1's error.
func check(model string, fields []field, body any) (*object, string) {
	in, ok := body.(*object)
	if !ok {
		return nil, fmt.Sprintf("kitt.web.models.agent.%s() argument after ** must be a mapping, not %s", model, pyType(body))
	}
	out := newObject()
	var faults []string
	for _, f := range fields {
		v, ok := in.values[f.name]
		switch {
		case !ok && f.fallback == nil:
			faults = append(faults, f.name+"\n  field required (type=value_error.missing)")
		case !ok:
			out.set(f.name, f.fallback)
		case v == nil:
			faults = append(faults, f.name+"\n  none is not an allowed value (type=type_error.none.not_allowed)")
		default:
			v, fault := f.check(v)
			if fault != "" {
				faults = append(faults, f.name+fault)
			}
			out.set(f.name, v)
		}
	}
	if len(faults) == 0 {
		return out, ""
	}
	plural := "s"
	if len(faults) == 1 {
		plural = ""
	}
	return nil, fmt.Sprintf("%d validation error%s for %s\n%s", len(faults), plural, model, strings.Join(faults, "\n"))
}

func pyType(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case string:
		return "str"
	case num:
		if v.whole() {
			return "int"
		}
		return "float"
	case []any:
		return "list"
	}
	return "dict"
}

func asText(v any) (any, string) {
	switch v.(type) {
	case string, num, bool:
		return str(v), ""
	}
	return nil, "\n  str type expected (type=type_error.str)"
}

func asInt(v any) (any, string) {
	n, ok := toInt(v)
	if !ok {
		return nil, "\n  value is not a valid integer (type=type_error.integer)"
	}
	return num(n.String()), ""
}

func asFloat(v any) (any, string) {
	switch v := v.(type) {
	case num:
		return v, ""
	case bool:
		n, _ := asInt(v)
		return n, ""
	case string:
		if n, err := parse([]byte(strings.TrimSpace(v))); err == nil {
			if n, ok := n.(num); ok {
				return n, ""
			}
		}
	}
	return nil, "\n  value is not a valid float (type=type_error.float)"
}

func asTexts(v any) (any, string) {
	return asList(v, asText)
}

func asObjects(v any) (any, string) {
	return asList(v, func(v any) (any, string) {
		if _, ok := v.(*object); !ok {
			return nil, "\n  value is not a valid dict (type=type_error.dict)"
		}
		return v, ""
	})
}

func asList(v any, check func(any) (any, string)) (any, string) {
	list, ok := v.([]any)
	if !ok {
		return nil, "\n  value is not a valid list (type=type_error.list)"
	}
	out := make([]any, len(list))
	for i, element := range list {
		checked, fault := check(element)
		if fault != "" {
			return nil, fmt.Sprintf(" -> %d%s", i, fault)
		}
		out[i] = checked
	}
	return out, ""
}
