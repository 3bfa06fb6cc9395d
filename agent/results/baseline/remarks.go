package baseline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
)

// indexLimit is how long Remarks works on the index.
const indexLimit = 500 * time.Millisecond

// maxNamed is how many metrics the remarks on one run name.
const maxNamed = 3

// Remarks returns sentences on how the run of the job in dir differs from its baseline
// and whether that is noise; none if there is no baseline for it. It fits
// agent.Config.Remarks. It also renews the Store's index, so that a list is quick.
func (f *File) Remarks(ctx context.Context, dir string) ([]string, error) {
	r, err := results.Read(dir)
	if err != nil {
		return nil, err
	}
	said, err := f.Compare(r)
	// A long list gets its index in several steps.
	ctx, cancel := context.WithTimeout(ctx, indexLimit)
	defer cancel()
	_, listErr := f.store.List(ctx)
	if errors.Is(listErr, context.DeadlineExceeded) {
		listErr = nil
	}
	return said, errors.Join(err, listErr)
}

// Compare returns what Remarks says of a run.
func (f *File) Compare(r *results.Run) ([]string, error) {
	all, err := f.Baselines()
	if err != nil || len(r.Metrics) == 0 {
		return nil, err
	}
	at := slices.IndexFunc(all, func(b Baseline) bool { return sameTest(b.Runs[0], r) })
	if at < 0 || all[at].contains(r.Name()) {
		return nil, nil
	}
	b := all[at]
	if r.Verdict == integrity.Invalid {
		return []string{"Baseline: not compared, because the machine was not fit to be measured"}, nil
	}
	noise, err := f.Noise()
	if err != nil {
		return nil, err
	}
	c, err := compare.Runs(b.Runs, []*results.Run{r}, compare.Options{Noise: noise, Allow: []string{"all"}})
	if err != nil {
		return nil, err
	}
	said := describe(&c, b)
	if was, is := b.Clock, r.SMClockMHz(); was > 0 && is > 0 && (is < 0.99*was || is > 1.01*was) {
		said = append(said, fmt.Sprintf("Baseline: the median SM clock is %.0f MHz and was %.0f MHz, so the figures cannot be compared", is, was))
	}
	return said, nil
}

// describe returns sentences on a comparison with a baseline.
func describe(c *compare.Comparison, b Baseline) (said []string) {
	name := "Baseline of " + c.A.Last.UTC().Format(time.DateOnly)
	if n := len(b.Runs); n > 1 {
		name += fmt.Sprintf(" (%d runs)", n)
	}
	rows := slices.DeleteFunc(slices.Clone(c.Rows), func(r compare.Row) bool { return r.DeltaPct == nil || r.A.N == 0 || r.B.N == 0 })
	judged := slices.DeleteFunc(slices.Clone(rows), func(r compare.Row) bool { return r.NoisePct == nil })
	changed := slices.DeleteFunc(slices.Clone(judged), func(r compare.Row) bool { return r.Change != compare.Different })
	slices.SortStableFunc(changed, func(x, y compare.Row) int { return weight(y) - weight(x) })
	switch {
	case len(rows) == 0:
		return nil
	case len(judged) == 0:
		return []string{fmt.Sprintf("%s: %s. The noise is not known; measure it with: kitt-agent results calibrate", name, difference(headline(rows, b)))}
	case len(changed) == 0:
		row := headline(judged, b)
		return []string{fmt.Sprintf("%s: %s, which is within the noise of %s. No metric of %d differs by more than noise", name, difference(row), base.Percent(*row.NoisePct), len(judged))}
	}
	for _, row := range changed[:min(len(changed), maxNamed)] {
		word := ""
		switch {
		case row.Worse():
			word = ", worse"
		case row.Improved():
			word = ", better"
		}
		said = append(said, fmt.Sprintf("%s: %s%s, beyond the noise of %s", name, difference(&row), word, base.Percent(*row.NoisePct)))
	}
	if rest := len(changed) - maxNamed; rest > 0 {
		said = append(said, fmt.Sprintf("%s: %d further metrics differ by more than noise", name, rest))
	}
	return said
}

// weight is larger for rows that matter more.
func weight(r compare.Row) int {
	switch {
	case r.Worse():
		return 2
	case r.Improved():
		return 1
	}
	return 0
}

// headline returns the row of the baseline's headline, or else the first.
func headline(rows []compare.Row, b Baseline) *compare.Row {
	if h := b.Runs[0].Headline; h != nil {
		if at := slices.IndexFunc(rows, func(r compare.Row) bool { return r.Metric == h.Name }); at >= 0 {
			return &rows[at]
		}
	}
	return &rows[0]
}

// difference says how a metric differs, such as "throughput.avg_tps is 97.1, 2.9% below
// 100".
func difference(r *compare.Row) string {
	switch pct := *r.DeltaPct; {
	case pct < 0:
		return fmt.Sprintf("%s is %.4g, %s below %.4g", r.Metric, r.B.Median, base.Percent(-pct), r.A.Median)
	case pct > 0:
		return fmt.Sprintf("%s is %.4g, %s above %.4g", r.Metric, r.B.Median, base.Percent(pct), r.A.Median)
	}
	return fmt.Sprintf("%s is %.4g as before", r.Metric, r.B.Median)
}
