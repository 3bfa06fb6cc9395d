package kittapitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// resultRow is a stored result.
type resultRow struct {
	id   string
	data *object
}

func (r *resultRow) row() *object {
	o := r.data.clone()
	o.set("id", r.id)
	return o
}

// text returns a column of the result.
func (r *resultRow) text(key string) string {
	s, _ := column(r.data.or(key, "")).(string)
	return s
}

func (c *call) report() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a, denied, may := c.resolveLocked()
	if !may {
		return denied
	}
	body := c.json()
	if !truthy(body) {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	in, isObject := body.(*object)
	if !isObject {
		return page(http.StatusInternalServerError)
	}
	return s.deliverLocked(a, in)
}

// deliverLocked takes a result that an agent delivers.
func (s *Server) deliverLocked(a *agentRow, in *object) answer {
	if data := in.get("result_data"); truthy(data) {
		stored, isObject := data.(*object)
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
	}
	s.reports = append(s.reports, newReport(s.now(), a, in))
	s.wakeLocked()
	return reply(http.StatusAccepted, newObject("accepted", true))
}

// resultBreach returns why the real server would fail at result data, and leave
// its database locked; empty if it would not.
func resultBreach(data *object) string {
	for _, key := range []string{
		"model", "engine", "suite_name", "timestamp", "kitt_version",
		"total_benchmarks", "passed_count", "failed_count", "total_time_seconds",
	} {
		if v, ok := data.values[key]; ok && (v == nil || !bindable(v)) {
			return key + " is no plain value"
		}
	}
	if why := resultsBreach(data.or("results", []any{})); why != "" {
		return why
	}
	info := data.get("system_info")
	if !truthy(info) {
		return ""
	}
	system, ok := info.(*object)
	if !ok {
		return "system_info is no object"
	}
	for _, key := range []string{"ram_gb", "environment_type", "fingerprint"} {
		if !bindable(system.get(key)) {
			return "system_info." + key + " is no plain value"
		}
	}
	for part, keys := range map[string][]string{"gpu": {"model", "vram_gb", "count"}, "cpu": {"model", "cores"}} {
		v := system.get(part)
		if !truthy(v) {
			continue
		}
		o, ok := v.(*object)
		if !ok {
			return "system_info." + part + " is no object"
		}
		for _, key := range keys {
			if !bindable(o.get(key)) {
				return "system_info." + part + "." + key + " is no plain value"
			}
		}
	}
	return ""
}

func resultsBreach(v any) string {
	list, ok := v.([]any)
	if !ok {
		if _, isNumber := v.(num); truthy(v) || v == nil || isNumber || v == false {
			return "results is no list"
		}
		return ""
	}
	for i, element := range list {
		bench, ok := element.(*object)
		if !ok {
			return fmt.Sprintf("results[%d] is no object", i)
		}
		for _, key := range []string{"test_name", "test_version", "run_number", "timestamp"} {
			if v, ok := bench.values[key]; ok && (v == nil || !bindable(v)) {
				return fmt.Sprintf("results[%d].%s is no plain value", i, key)
			}
		}
		metrics, ok := bench.or("metrics", newObject()).(*object)
		if !ok {
			return fmt.Sprintf("results[%d].metrics is no object", i)
		}
		for name, value := range metrics.values {
			n, isNumber := value.(num)
			if !isNumber {
				if _, isBool := value.(bool); !isBool {
					continue
				}
			} else if _, fits := n.float(); !fits {
				return fmt.Sprintf("results[%d].metrics has an integer beyond a double's range", i)
			}
			if !utf8.ValidString(name) {
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
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	results := s.results
	if model != "" {
		results = s.byModel[model]
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
	pages := 0
	if perPage > 0 {
		pages = (len(found) + perPage - 1) / perPage
	}
	return ok("items", items, "total", integer(len(found)), "page", integer(page), "per_page", integer(perPage), "pages", integer(pages))
}

func (c *call) getResult() answer {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, r := range c.s.results {
		if r.id == c.id {
			return reply(http.StatusOK, r.row())
		}
	}
	return refuse(http.StatusNotFound, "Result not found")
}

func (c *call) deleteResult() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(r *resultRow) bool { return r.id == c.id }
	at := slices.IndexFunc(s.results, is)
	if at < 0 {
		return refuse(http.StatusNotFound, "Result not found")
	}
	model := s.results[at].text("model")
	s.results = slices.DeleteFunc(s.results, is)
	s.byModel[model] = slices.DeleteFunc(s.byModel[model], is)
	return ok("deleted", true)
}
