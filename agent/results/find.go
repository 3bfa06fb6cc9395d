package results

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// ErrNotFound is matched by the error of a Find for a word that fits no run.
var ErrNotFound = errors.New("there is no such run")

// A SelectorError is the error of a word that cannot select runs.
type SelectorError struct{ Text string }

// Error returns a sentence.
func (e *SelectorError) Error() string { return e.Text }

func selectorError(format string, args ...any) error {
	return &SelectorError{fmt.Sprintf(format, args...)}
}

// Find returns the runs that words select, each once, in the words' order and the
// newest first. A word is one of these:
//
//   - the beginning of a run's or a test's id, if no other run's id begins like it;
//     gpu-07/1a2b for an imported run;
//   - conditions, such as model=llama,engine=vllm,since=24h. Each selected run meets
//     all. The model is a part of its name, since and until are a duration before now
//     or a date, the other keys are engine, suite, benchmark, state, verdict, agent,
//     version, origin and test, and are met by their exact value.
//
// The error is a [*SelectorError] if a word makes no sense, and matches [ErrNotFound] if
// it selects nothing. Without words Find returns all runs.
func (s *Store) Find(ctx context.Context, words ...string) ([]Summary, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	return find(all, words, time.Now())
}

func find(all []Summary, words []string, now time.Time) ([]Summary, error) {
	if len(words) == 0 {
		return all, nil
	}
	var found []Summary
	known := map[string]bool{}
	for _, word := range words {
		selected, err := selectRuns(all, word, now)
		if err != nil {
			return nil, err
		}
		for _, run := range selected {
			if !known[run.key] {
				known[run.key] = true
				found = append(found, run)
			}
		}
	}
	return found, nil
}

// selectRuns returns the runs that one word selects.
func selectRuns(all []Summary, word string, now time.Time) (selected []Summary, err error) {
	fits := func(s *Summary) bool { return s.hasID(word) }
	byID := !strings.Contains(word, "=")
	if !byID {
		if fits, err = parseConditions(word, now); err != nil {
			return nil, err
		}
	}
	for i := range all {
		if fits(&all[i]) {
			selected = append(selected, all[i])
		}
	}
	switch {
	case len(selected) == 0:
		return nil, fmt.Errorf("%w: %s; kitt-agent results list shows them", ErrNotFound, base.Printable(strconv.Quote(word), 200))
	case byID && len(selected) > 1:
		if exact := slices.IndexFunc(selected, func(s Summary) bool { return s.ID == word && s.Origin == "" }); exact >= 0 {
			return selected[exact : exact+1], nil
		}
		var ids []string
		for _, run := range selected[:min(len(selected), 5)] {
			ids = append(ids, run.Name())
		}
		return nil, selectorError("%s is the beginning of several ids: %s", base.Printable(strconv.Quote(word), 200), base.Printable(strings.Join(ids, ", "), 400))
	}
	return selected, nil
}

// Name returns the id under which Find knows the run: for an imported run with its
// origin, such as gpu-07/1a2b3c4d.
func (s *Summary) Name() string {
	if s.Origin != "" {
		return s.Origin + "/" + s.ID
	}
	return s.ID
}

func (s *Summary) hasID(word string) bool {
	return word != "" && (strings.HasPrefix(s.ID, word) || strings.HasPrefix(s.Name(), word) || s.TestID != "" && strings.HasPrefix(s.TestID, word))
}

// texts are the keys of conditions that are met by an exact value.
var texts = map[string]func(*Summary) string{
	"engine": func(s *Summary) string { return s.Engine }, "suite": func(s *Summary) string { return s.Suite },
	"benchmark": func(s *Summary) string { return s.Benchmark }, "state": func(s *Summary) string { return s.State },
	"verdict": func(s *Summary) string { return string(s.Verdict) }, "agent": func(s *Summary) string { return s.Agent },
	"version": func(s *Summary) string { return s.AgentVersion }, "origin": func(s *Summary) string { return s.Origin },
	"test": func(s *Summary) string { return s.TestID },
}

// parseConditions returns a function that reports whether a run meets all conditions.
func parseConditions(word string, now time.Time) (func(*Summary) bool, error) {
	var all []func(*Summary) bool
	for condition := range strings.SplitSeq(word, ",") {
		key, value, ok := strings.Cut(condition, "=")
		if !ok {
			return nil, selectorError("%s is not a condition such as model=llama", base.Printable(strconv.Quote(condition), 200))
		}
		text := texts[key]
		switch {
		case text != nil:
			all = append(all, func(s *Summary) bool { return text(s) == value })
		case key == "model":
			all = append(all, func(s *Summary) bool { return strings.Contains(s.Model, value) })
		case key == "since" || key == "until":
			at, err := parseTime(value, now)
			if err != nil {
				return nil, err
			}
			all = append(all, func(s *Summary) bool { return s.Time().Before(at) == (key == "until") })
		default:
			return nil, selectorError("there is no condition %s; there are model, engine, suite, benchmark, state, verdict, agent, version, origin, test, since and until",
				base.Printable(strconv.Quote(key), 100))
		}
	}
	return func(s *Summary) bool {
		return !slices.ContainsFunc(all, func(met func(*Summary) bool) bool { return !met(s) })
	}, nil
}

// parseTime parses a duration before now, such as 24h or 7d, a date or a time.
func parseTime(value string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(value, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(value); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.ParseInLocation(layout, value, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, selectorError("%s is neither a duration such as 24h or 7d nor a date such as 2026-11-30", base.Printable(strconv.Quote(value), 100))
}
