package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
)

// How often the live view is redrawn, and how often a line is written where
// there is no terminal.
const (
	drawEvery = 500 * time.Millisecond
	lineEvery = 10 * time.Second
)

// fleetView is what a person sees of a fleet while it runs.
type fleetView struct {
	fleet *fleet.Fleet

	mu           sync.Mutex
	at           time.Time
	now          fleet.Stats
	lines, calls float64 // a second, over the last sample
}

// sample reads the figures again.
func (v *fleetView) sample() {
	now, at := v.fleet.Stats(), time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := at.Sub(v.at).Seconds(); !v.at.IsZero() && d > 0 {
		v.lines = float64(now.LinesDelivered-v.now.LinesDelivered) / d
		v.calls = float64(now.Requests-v.now.Requests) / d
	}
	v.now, v.at = now, at
}

// rows returns the view, line by line.
func (v *fleetView) rows() [4]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.now
	row := [4]string{
		fmt.Sprintf("agents  %d of %d online", s.Online, s.Agents),
		fmt.Sprintf("jobs  %d running, %d completed, %d failed", s.JobsRunning, s.JobsCompleted, s.JobsFailed),
		fmt.Sprintf("log  %.0f lines/s, %d lines", v.lines, s.LinesDelivered),
		fmt.Sprintf("server  %.0f requests/s, p50 %s, p99 %s, %d errors", v.calls, brief(s.LatencyP50), brief(s.LatencyP99), s.Errors),
	}
	if s.Errors > 0 {
		row[3] += ", last: " + shortenEnd(s.LastError, 60)
	}
	return row
}

// shortenEnd returns a text from elsewhere in at most n characters, its beginning
// kept.
func shortenEnd(text string, n int) string {
	runes := []rune(printable(text))
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n-1]) + "…"
}

// brief returns how long a request took as a person would say it.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// watchFleet shows the state of f on standard error until the returned function is
// called, which waits for the last of it: a view that is redrawn on a
// terminal, a line now and then elsewhere.
func (env *environment) watchFleet(f *fleet.Fleet) (end func()) {
	v := &fleetView{fleet: f}
	v.sample()
	every, show, last := lineEvery, func() { env.say("%s", strings.Join(v.plain(), "; ")) }, func() {}
	if logging.IsTerminal(env.stderr) && env.getenv("TERM") != "dumb" {
		every, show, last = drawEvery, func() {}, v.draw(env.stderr)
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				v.sample()
				show()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
		v.sample()
		last()
	}
}

// plain returns the rows without the blanks that set labels apart.
func (v *fleetView) plain() []string {
	rows := v.rows()
	for i := range rows {
		rows[i] = strings.Replace(rows[i], "  ", " ", 1)
	}
	return rows[:]
}

// draw shows the rows on a terminal until the returned function is called.
func (v *fleetView) draw(out io.Writer) (end func()) {
	p := mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(drawEvery))
	bars := make([]*mpb.Bar, len(v.rows()))
	for i := range bars {
		bars[i] = p.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			label, rest, _ := strings.Cut(v.rows()[i], "  ")
			return fmt.Sprintf("%-8s%s", label, rest)
		})))
	}
	return func() {
		for _, b := range bars {
			b.Abort(false)
		}
		p.Wait()
	}
}

// write prints the summary for a person.
func (r *simulateReport) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(label, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", label, fmt.Sprintf(format, args...))
	}
	row("Agents", "%d, %d registered, for %s", r.Agents, r.Registered, span(time.Duration(r.Seconds*float64(time.Second))))
	row("Jobs", "%d started, %d completed, %d failed", r.JobsStarted, r.JobsCompleted, r.JobsFailed)
	if r.Launched > 0 {
		row("Launched", "%d", r.Launched)
	}
	row("Log", "%d lines printed, %d delivered with the agents' own", r.LinesPrinted, r.LinesDelivered)
	row("Requests", "%d, p50 %s, p99 %s, longest %s", r.Requests, brief(r.LatencyP50), brief(r.LatencyP99), brief(r.LatencyMax))
	row("Errors", "%d", r.Errors)
	if r.LastError != "" {
		row("", "last: %s", printable(r.LastError))
	}
	if c := r.Check; c != nil {
		row("Check", "%d jobs with %d lines: %d lines lost, %d extra, %d jobs differ", c.Jobs, c.Lines, c.Lost, c.Extra, c.Differ)
		for _, fault := range c.Faults {
			row("", "%s", printable(fault))
		}
	}
	if r.Dir != "" {
		row("Jobs kept in", "%s", r.Dir)
	}
	return table.Flush()
}
