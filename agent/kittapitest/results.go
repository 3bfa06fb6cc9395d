package kittapitest

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
)

// resultRow is a stored result.
type resultRow struct {
	id   string
	data object
}

func (r *resultRow) row() object {
	o := maps.Clone(r.data)
	o["id"] = r.id
	return o
}

// text returns a column of the result.
func (r *resultRow) text(key string) string {
	s, _ := column(r.data.or(key, "")).(string)
	return s
}

func (c *call) report(a *agentRow) answer {
	in, fault := c.object("Invalid JSON body")
	if in == nil {
		return fault
	}
	return c.s.deliverLocked(a, in)
}

// deliverLocked stores a result that an agent delivers.
func (s *Server) deliverLocked(a *agentRow, in object) answer {
	report := newReport(s.now(), a, in)
	if data := in["result_data"]; truthy(data) {
		stored, isObject := data.(object)
		if !isObject {
			return page(http.StatusInternalServerError)
		}
		if why := resultBreach(stored); why != "" {
			s.breachLocked("result of %q: %s", a.name(), why)
			return page(http.StatusInternalServerError)
		}
		r := &resultRow{newID(), stored}
		s.results = append(s.results, r)
		s.byModel[r.text("model")] = append(s.byModel[r.text("model")], r)
		report.result = r.id
	}
	s.reports = append(s.reports, report)
	s.wakeLocked()
	return reply(http.StatusAccepted, newObject("accepted", true))
}

// resultBreach returns why the real server would fail on result data and leave its
// database locked, or an empty string if it would not.
func resultBreach(data object) string {
	for _, key := range []string{
		"model", "engine", "suite_name", "timestamp", "kitt_version",
		"total_benchmarks", "passed_count", "failed_count", "total_time_seconds",
	} {
		if v, ok := data[key]; ok && (v == nil || !bindable(v)) {
			return key + " is not a plain value"
		}
	}
	if why := resultsBreach(data.or("results", []any{})); why != "" {
		return why
	}
	info := data["system_info"]
	if !truthy(info) {
		return ""
	}
	system, ok := info.(object)
	if !ok {
		return "system_info is not an object"
	}
	for _, key := range []string{"ram_gb", "environment_type", "fingerprint"} {
		if !bindable(system[key]) {
			return "system_info." + key + " is not a plain value"
		}
	}
	for part, keys := range map[string][]string{"gpu": {"model", "vram_gb", "count"}, "cpu": {"model", "cores"}} {
		v := system[part]
		if !truthy(v) {
			continue
		}
		o, ok := v.(object)
		if !ok {
			return "system_info." + part + " is not an object"
		}
		for _, key := range keys {
			if !bindable(o[key]) {
				return "system_info." + part + "." + key + " is not a plain value"
			}
		}
	}
	return ""
}

func resultsBreach(v any) string {
	list, ok := v.([]any)
	if !ok {
		if _, isNumber := v.(num); truthy(v) || v == nil || isNumber || v == false {
			return "results is not a list"
		}
		return ""
	}
	for i, element := range list {
		bench, ok := element.(object)
		if !ok {
			return fmt.Sprintf("results[%d] is not an object", i)
		}
		for _, key := range []string{"test_name", "test_version", "run_number", "timestamp"} {
			if v, ok := bench[key]; ok && (v == nil || !bindable(v)) {
				return fmt.Sprintf("results[%d].%s is not a plain value", i, key)
			}
		}
		metrics, ok := bench.or("metrics", newObject()).(object)
		if !ok {
			return fmt.Sprintf("results[%d].metrics is not an object", i)
		}
		for name, value := range metrics {
			n, isNumber := value.(num)
			if _, isBool := value.(bool); !isNumber && !isBool {
				continue
			}
			if isNumber && n.whole() && math.IsInf(n.float(), 0) {
				return fmt.Sprintf("results[%d].metrics has an integer beyond a double's range", i)
			}
			if !bindable(name) {
				return fmt.Sprintf("results[%d].metrics has a lone surrogate in a name", i)
			}
		}
	}
	return ""
}

func (c *call) listResults() answer {
	query := c.r.URL.Query()
	model, engine, suite := query.Get("model"), query.Get("engine"), query.Get("suite_name")
	page, perPage := max(c.number("page", 1), 1), max(c.number("per_page", 25), 0)
	results := c.s.results
	if model != "" {
		results = c.s.byModel[model]
	}
	var found []*resultRow
	for _, r := range results {
		if (engine == "" || r.text("engine") == engine) && (suite == "" || r.text("suite_name") == suite) {
			found = append(found, r)
		}
	}
	slices.SortStableFunc(found, func(a, b *resultRow) int { return strings.Compare(b.text("timestamp"), a.text("timestamp")) })
	items := []any{}
	for _, r := range cutPage(found, page, perPage) {
		items = append(items, r.row())
	}
	o := pageOf(items, len(found), page, perPage)
	o["per_page"] = integer(perPage)
	return reply(http.StatusOK, o)
}

func (c *call) getResult() answer {
	for _, r := range c.s.results {
		if r.id == c.id {
			return reply(http.StatusOK, r.row())
		}
	}
	return refuse(http.StatusNotFound, "Result not found")
}

func (c *call) deleteResult() answer {
	if !c.s.deleteResultLocked(c.id) {
		return refuse(http.StatusNotFound, "Result not found")
	}
	return ok("deleted", true)
}

// deleteResultLocked removes a stored result and reports whether there was one.
func (s *Server) deleteResultLocked(id string) bool {
	is := func(r *resultRow) bool { return r.id == id }
	at := slices.IndexFunc(s.results, is)
	if at < 0 {
		return false
	}
	model := s.results[at].text("model")
	s.results = slices.DeleteFunc(s.results, is)
	s.byModel[model] = slices.DeleteFunc(s.byModel[model], is)
	return true
}
