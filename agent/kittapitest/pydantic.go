package kittapitest

import (
	"fmt"
	"strings"
)

// A field is a field of a request body that the server validates.
type field struct {
	name     string
	check    func(v any) (any, string)
	fallback any // the default; nil if the field is required
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
	{"capabilities", asList, []any{}},
	{"hardware_details", asText, ""},
}

var beatFields = []field{
	{"status", asText, "idle"},
	{"current_task", asText, ""},
	{"gpu_utilization_pct", asFloat, num("0.0")},
	{"gpu_memory_used_gb", asFloat, num("0.0")},
	{"storage_gb_free", asFloat, num("0.0")},
	{"uptime_s", asFloat, num("0.0")},
	{"engines", asList, []any{}},
}

// check returns the fields of body in their types and nothing else, or the text of
// pydantic 1's error, for the errors that were recorded.
func check(model string, fields []field, body any) (object, string) {
	in, ok := body.(object)
	if !ok {
		return nil, fmt.Sprintf("kitt.web.models.agent.%s() argument after ** must be a mapping, not list", model)
	}
	out := object{}
	var faults []string
	for _, f := range fields {
		v, ok := in[f.name]
		switch {
		case !ok && f.fallback == nil:
			faults = append(faults, f.name+"\n  field required (type=value_error.missing)")
		case !ok:
			out[f.name] = f.fallback
		case v == nil:
			faults = append(faults, f.name+"\n  none is not an allowed value (type=type_error.none.not_allowed)")
		default:
			v, fault := f.check(v)
			if fault != "" {
				faults = append(faults, f.name+"\n  "+fault)
			}
			out[f.name] = v
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

func asText(v any) (any, string) {
	switch v.(type) {
	case string, num, bool:
		return str(v), ""
	}
	return nil, "str type expected (type=type_error.str)"
}

func asInt(v any) (any, string) {
	n, ok := toInt(v)
	if !ok {
		return nil, "value is not a valid integer (type=type_error.integer)"
	}
	return integer(n), ""
}

func asFloat(v any) (any, string) {
	if n, ok := v.(num); ok {
		return n, ""
	}
	return nil, "value is not a valid float (type=type_error.float)"
}

func asList(v any) (any, string) {
	if list, ok := v.([]any); ok {
		return list, ""
	}
	return nil, "value is not a valid list (type=type_error.list)"
}
