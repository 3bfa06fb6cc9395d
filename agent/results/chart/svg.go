package chart

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/internal/base"
)

// The picture's measures, in pixels.
const (
	width     = 1000
	left      = 80
	right     = 20
	plotWidth = width - left - right
	panel     = 130 // height of a panel with lines
	panelGap  = 34
	barHeight = 14
	top       = 92
)

var palette = []string{"#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f", "#bcbd22"}

// SVG writes a picture of a run. The error matches [ErrNoSamples] if there is nothing to
// draw, or says why the samples cannot be read, or is that of w.
func SVG(w io.Writer, r *results.Run) error {
	t, err := newTimeline(r, plotWidth)
	if err != nil {
		return err
	}
	p := &picture{timeline: t, y: top}
	p.phases = phases(r, t)
	p.panel("SM clock", "MHz", clockMHz)
	p.panel("Power", "W", powerW)
	p.panel("Temperature", "°C", temperatureC)
	p.slowdowns()
	p.company(r)
	p.timeAxis()
	p.legend()
	out := bufio.NewWriter(w)
	p.begin(out, r)
	_, _ = out.WriteString(p.body.String())
	_, _ = out.WriteString("</svg>\n")
	return out.Flush()
}

// A picture is being drawn from top to bottom.
type picture struct {
	*timeline
	body   strings.Builder
	y      int // of what comes next
	phases []span
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(&p.body, format, args...) }

// escape returns text for an element or a quoted attribute.
func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(base.Printable(text, 200))) // strings.Builder has no errors
	return out.String()
}

// begin writes what comes first; the height is known last.
func (p *picture) begin(w io.Writer, r *results.Run) {
	height := p.y + 10
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#222">`+"\n", width, height, width, height)
	fmt.Fprintf(w, "<title>Run %s</title>\n", escape(r.Name()))
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(w, `<text x="%d" y="26" font-size="17" font-weight="bold">%s</text>`+"\n", left, escape(cmp.Or(r.Model, "unknown model")+", "+r.Engine+", "+r.Suite))
	fmt.Fprintf(w, `<text x="%d" y="45">%s</text>`+"\n", left, escape(subtitle(r)))
	color, verdict := "#555", "Machine: "+string(r.Verdict)
	if r.Report != nil {
		verdict = r.Report.Verdict.Line()
	}
	switch r.Verdict {
	case "valid":
		color = "#2a7a2a"
	case "warning":
		color = "#b06a00"
	case "invalid":
		color = "#c01818"
	}
	fmt.Fprintf(w, `<text x="%d" y="64" font-weight="bold" fill="%s">%s</text>`+"\n", left, color, escape(verdict))
}

// subtitle says which run it is and where.
func subtitle(r *results.Run) string {
	parts := []string{"run " + r.Name()}
	if r.Agent != "" {
		parts = append(parts, "on "+r.Agent)
	}
	if gpu := r.Identity[results.FieldGPU]; gpu != "" {
		parts = append(parts, gpu)
	}
	if at := r.Time(); !at.IsZero() {
		parts = append(parts, "ended "+at.UTC().Format("2006-01-02 15:04:05")+" UTC")
	}
	if h := r.Headline; h != nil {
		parts = append(parts, fmt.Sprintf("%s %.4g", h.Name, h.Value))
	}
	if j := r.Energy.JoulesPerToken; j != nil {
		parts = append(parts, fmt.Sprintf("at most %.3g J per token", *j))
	}
	return strings.Join(parts, "  ·  ")
}

// x returns where a time is.
func (p *picture) x(at time.Time) float64 {
	share := at.Sub(p.from).Seconds() / max(p.to.Sub(p.from).Seconds(), 1)
	return left + plotWidth*min(max(share, 0), 1)
}

// shade marks the phase that measures behind what is drawn next.
func (p *picture) shade(height int) {
	for _, s := range p.phases {
		fill := "#f4f4f4"
		if s.name == "measure" {
			fill = "#eaf3fb"
		}
		p.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", p.x(s.from), p.y, max(p.x(s.to)-p.x(s.from), 0), height, fill)
	}
}

// panel draws one quantity of all GPUs.
func (p *picture) panel(name, unit string, quantity int) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, g := range p.gpus {
		for i := range g.bins[quantity] {
			if b := &g.bins[quantity][i]; b.n > 0 {
				low, high = min(low, b.min), max(high, b.max)
			}
		}
	}
	p.printf(`<text x="%d" y="%d" font-weight="bold">%s (%s)</text>`+"\n", left, p.y-6, name, unit)
	p.shade(panel)
	if p.y == top {
		p.phaseNames()
	}
	p.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#bbb"/>`+"\n", left, p.y, plotWidth, panel)
	if low > high {
		p.printf(`<text x="%d" y="%d" fill="#777">not known</text>`+"\n", left+10, p.y+panel/2)
		p.y += panel + panelGap
		return
	}
	ticks := niceTicks(low, high)
	low, high = ticks[0], ticks[len(ticks)-1]
	y := func(v float64) float64 { return float64(p.y) + panel*(1-(v-low)/(high-low)) }
	for _, v := range ticks {
		p.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%.6g</text>`+"\n",
			left, y(v), left+plotWidth, y(v), left-6, y(v)+4, v)
	}
	for i, g := range p.gpus {
		p.line(g, quantity, palette[i%len(palette)], y)
	}
	p.y += panel + panelGap
}

func (p *picture) phaseNames() {
	for _, s := range p.phases {
		if p.x(s.to)-p.x(s.from) > 40 {
			p.printf(`<text x="%.1f" y="%d" text-anchor="middle" fill="#777">%s</text>`+"\n", (p.x(s.from)+p.x(s.to))/2, p.y+panel-6, s.name)
		}
	}
}

// line draws a quantity of one GPU: a line of means, and a band of what was lower and
// higher. Both break where there are no samples.
func (p *picture) line(g *line, quantity int, color string, y func(float64) float64) {
	bins := g.bins[quantity]
	var part []int
	flush := func() {
		if len(part) == 0 {
			return
		}
		at := func(i int) float64 { return p.x(p.from.Add(time.Duration(i)*p.step + p.step/2)) }
		var mean, band strings.Builder
		wide := false
		for _, i := range part {
			fmt.Fprintf(&mean, "%.1f,%.1f ", at(i), y(bins[i].mean()))
			fmt.Fprintf(&band, "%.1f,%.1f ", at(i), y(bins[i].max))
			wide = wide || bins[i].max > bins[i].min
		}
		for k := len(part) - 1; k >= 0; k-- {
			fmt.Fprintf(&band, "%.1f,%.1f ", at(part[k]), y(bins[part[k]].min))
		}
		if wide {
			p.printf(`<polygon points="%s" fill="%s" opacity="0.2"/>`+"\n", strings.TrimSpace(band.String()), color)
		}
		if len(part) == 1 {
			p.printf(`<circle cx="%.1f" cy="%.1f" r="1.5" fill="%s"/>`+"\n", at(part[0]), y(bins[part[0]].mean()), color)
		} else {
			p.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.3"/>`+"\n", strings.TrimSpace(mean.String()), color)
		}
		part = part[:0]
	}
	for i := range bins {
		if bins[i].n == 0 {
			continue
		}
		if len(part) > 0 && bins[i].first.Sub(bins[part[len(part)-1]].last) > gapAbove {
			flush()
		}
		part = append(part, i)
	}
	flush()
}

// slowdowns draws a strip for each GPU with the times in which it was slowed down.
func (p *picture) slowdowns() {
	p.printf(`<text x="%d" y="%d" font-weight="bold">Slowed down by</text>`+"\n", left, p.y-6)
	x := left + 116
	for _, s := range slowdowns {
		p.printf(`<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d" fill="#555">%s</text>`+"\n", x, p.y-15, s.color, x+14, p.y-6, s.name)
		x += 30 + 7*len(s.name)
	}
	for _, g := range p.gpus {
		p.printf(`<text x="%d" y="%d" text-anchor="end" fill="#555">GPU %d</text>`+"\n", left-6, p.y+11, g.index)
		p.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="#f4f4f4"/>`+"\n", left, p.y, plotWidth, barHeight)
		for _, s := range slowdowns {
			for i := 0; i < len(g.reasons); i++ {
				if g.reasons[i]&s.bits == 0 {
					continue
				}
				first := i
				for i < len(g.reasons) && g.reasons[i]&s.bits != 0 {
					i++
				}
				from, to := p.x(p.from.Add(time.Duration(first)*p.step)), p.x(p.from.Add(time.Duration(i)*p.step))
				p.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s</title></rect>`+"\n", from, p.y, max(to-from, 1), barHeight, s.color, s.name)
			}
		}
		p.y += barHeight + 4
	}
	p.y += panelGap - 4
}

// company draws a bar for each foreign process and neighbour.
func (p *picture) company(r *results.Run) {
	if r.Report == nil || len(r.Report.Foreign)+len(r.Report.Neighbours) == 0 {
		return
	}
	p.printf(`<text x="%d" y="%d" font-weight="bold">Others at the same time</text>`+"\n", left, p.y-6)
	bars := 0
	bar := func(from, to time.Time, label, color string) {
		if bars++; bars > maxBars {
			return
		}
		x := p.x(from)
		p.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="#f4f4f4"/>`+"\n", left, p.y, plotWidth, barHeight)
		p.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, p.y, max(p.x(to)-x, 2), barHeight, color)
		anchor := "start"
		if x > left+plotWidth/2 {
			x, anchor = x-4, "end"
		}
		p.printf(`<text x="%.1f" y="%d" font-size="11" text-anchor="%s">%s</text>`+"\n", x+3, p.y+11, anchor, escape(label))
		p.y += barHeight + 3
	}
	for _, f := range r.Report.Foreign {
		label := fmt.Sprintf("GPU %d: process %d (%s of %s)", f.GPU, f.PID, cmp.Or(f.Command, "unknown"), cmp.Or(f.Owner, "unknown"))
		if f.MaxSMPct != nil {
			label += fmt.Sprintf(", up to %.3g%% of the SMs", *f.MaxSMPct)
		}
		bar(f.First, f.Last, label, "#e8a0a0")
	}
	for _, n := range r.Report.Neighbours {
		bar(n.First, n.Last, n.Name, "#c8b8e8")
	}
	if bars > maxBars {
		p.printf(`<text x="%d" y="%d" fill="#555">and %d more</text>`+"\n", left, p.y+11, bars-maxBars)
		p.y += barHeight
	}
	p.y += panelGap - 10
}

// timeAxis draws times since the beginning.
func (p *picture) timeAxis() {
	y := p.y - 12
	total := p.to.Sub(p.from).Seconds()
	for s := 0.0; s <= total; s += timeStep(total) {
		at := p.from.Add(time.Duration(s * float64(time.Second)))
		p.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#999"/><text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n",
			p.x(at), y-8, p.x(at), y-3, p.x(at), y+9, clockOf(s))
	}
	p.y += 16
}

// timeStep returns the seconds between two marks of the time axis.
func timeStep(total float64) float64 {
	const most = 10 // marks
	for _, step := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200} {
		if total <= most*step {
			return step
		}
	}
	return 86400 * math.Ceil(total/86400/most)
}

// clockOf returns seconds as 1:23:45.
func clockOf(s float64) string {
	n := int(s + 0.5)
	if n < 3600 {
		return fmt.Sprintf("%d:%02d", n/60, n%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}

func (p *picture) legend() {
	x := left
	for i, g := range p.gpus {
		p.printf(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/><text x="%d" y="%d">GPU %d</text>`+"\n",
			x, p.y, x+18, p.y, palette[i%len(palette)], x+23, p.y+4, g.index)
		x += 80
		if x > left+plotWidth-80 {
			x, p.y = left, p.y+18
		}
	}
	if p.omitted > 0 {
		p.printf(`<text x="%d" y="%d" fill="#555">and %d more GPUs</text>`+"\n", x, p.y+4, p.omitted)
	}
	p.y += 14
}

// niceTicks returns round numbers of which the first is at most low and the last at
// least high.
func niceTicks(low, high float64) (ticks []float64) {
	if high-low < 1e-9*max(math.Abs(high), 1) {
		low, high = low-1, high+1
	}
	step := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*factor) <= 5 {
			step *= factor
			break
		}
	}
	first := math.Floor(low / step)
	for k := first; ; k++ {
		ticks = append(ticks, k*step)
		if k*step >= high {
			return ticks
		}
	}
}
