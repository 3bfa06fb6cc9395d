package webpage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/chart"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/web"
)

// jobsPerPage is how many ended jobs one page of the history lists.
const jobsPerPage = 50

// A jobList is the queue, and one page of the history.
type jobList struct {
	Query             string
	Current           []agent.JobStatus // that hold a slot or wait, in the order in which they run
	History           []agent.JobStatus // that have ended, the latest first
	Ended             int               // jobs that match
	Page, Pages       int               // from 1
	Previous, Further string
}

func (p *Page) jobs(r *http.Request, _ agent.Status) view {
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	list := jobList{Query: query}
	var ended []agent.JobStatus
	for _, j := range p.a.Jobs() {
		switch {
		case !matches(j, query):
		case j.State.Ended():
			ended = append(ended, j)
		default:
			list.Current = append(list.Current, j)
		}
	}
	slices.SortStableFunc(list.Current, func(a, b agent.JobStatus) int { return cmp.Compare(rank(b.State), rank(a.State)) })
	slices.SortStableFunc(ended, func(a, b agent.JobStatus) int { return b.EndedAt.Compare(a.EndedAt) })
	list.Ended, list.Pages = len(ended), max(1, (len(ended)+jobsPerPage-1)/jobsPerPage)
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil {
		page = 1
	}
	list.Page = min(max(page, 1), list.Pages)
	link := func(page int) string {
		if page < 1 || page > list.Pages {
			return ""
		}
		return p.cfg.Prefix + "/jobs?" + url.Values{"q": {query}, "page": {strconv.Itoa(page)}}.Encode()
	}
	list.Previous, list.Further = link(list.Page-1), link(list.Page+1)
	from := (list.Page - 1) * jobsPerPage
	list.History = ended[from:min(from+jobsPerPage, len(ended))]
	list.Current = list.Current[:min(len(list.Current), maxQueue)]
	return view{name: "jobs", here: "jobs", data: list}
}

// maxQueue is how many waiting jobs are listed.
const maxQueue = 200

// rank puts jobs that run before those that wait.
func rank(s agent.State) int {
	return slices.Index([]agent.State{agent.StateAccepted, agent.StatePreparing, agent.StateRunning, agent.StateFinishing}, s)
}

// matches reports whether one of a job's names contains query, in any case.
func matches(j agent.JobStatus, query string) bool {
	query = strings.ToLower(query)
	return slices.ContainsFunc([]string{j.Model, j.Engine, j.Suite, j.CommandID, j.TestID, string(j.State), j.Class, j.Type}, func(text string) bool {
		return strings.Contains(strings.ToLower(text), query)
	})
}

// readReport returns the report on the machine during a job's benchmark. The error
// matches [fs.ErrNotExist] if nothing was recorded.
func readReport(j agent.JobStatus) (integrity.Report, error) {
	if j.Integrity == nil {
		return integrity.Report{}, fs.ErrNotExist
	}
	return integrity.ReadReport(filepath.Join(j.Dir, integrity.ReportFile))
}

// An ending is what is known of a job that has ended.
type ending struct {
	Verdict *integrity.Verdict
	Outcome *web.Outcome // nil if there is no result
	Fault   string       // why one of them could not be read
}

// ending reads what is known of j.
func (p *Page) ending(ctx context.Context, j agent.JobStatus) ending {
	if !j.State.Ended() {
		return ending{}
	}
	e, err := read(ctx, p.disk, diskWait, func(context.Context) (ending, error) {
		var e ending
		report, reportErr := readReport(j)
		if reportErr == nil {
			e.Verdict = &report.Verdict
		}
		result, err := p.a.Result(j.CommandID)
		if err == nil && result.Data != nil {
			e.Outcome = web.NewOutcome(result.Data)
		}
		for _, err := range []error{reportErr, err} {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, agent.ErrNotAccepting) {
				e.Fault = err.Error()
			}
		}
		return e, nil
	})
	if err != nil {
		e.Fault = err.Error()
	}
	return e
}

// A jobPage is one job.
type jobPage struct {
	agent.JobStatus
	ending
}

func (p *Page) job(r *http.Request, _ agent.Status) view {
	j, err := p.a.Job(r.PathValue("id"))
	if err != nil {
		return view{status: http.StatusNotFound, name: "fault", here: "jobs", data: "There is no such job. Jobs whose reports were delivered are removed after some time (retention.max_age)."}
	}
	return view{name: "job", here: "jobs", data: jobPage{j, p.ending(r.Context(), j)}}
}

// getChart answers with the picture of a run: clocks, power and temperature over time.
func (p *Page) getChart(w http.ResponseWriter, r *http.Request) {
	j, err := p.a.Job(r.PathValue("id"))
	if err != nil || j.Integrity == nil {
		http.Error(w, "There is no record of the machine during this job", http.StatusNotFound)
		return
	}
	picture, err := read(r.Context(), p.disk, chartWait, func(context.Context) ([]byte, error) {
		run, err := results.Read(j.Dir)
		if err != nil {
			return nil, err
		}
		var picture bytes.Buffer
		err = chart.SVG(&picture, run)
		return picture.Bytes(), err
	})
	switch {
	case errors.Is(err, chart.ErrNoSamples):
		http.Error(w, "There are no samples of the machine during this job", http.StatusNotFound)
	case err != nil:
		p.cfg.Logger.WarnContext(r.Context(), "chart of a run not made", "job", j.CommandID, "err", err)
		http.Error(w, "The picture could not be made: "+err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Header().Set("Cache-Control", "private, max-age=3600") // the run has ended
		_, _ = w.Write(picture)                                  // the browser may be gone
	}
}

// A comparison is two runs side by side. [compare.Runs] of agent/results is for sets of
// runs, which tell chance from change.
type comparison struct {
	Jobs    []agent.JobStatus // two
	Differs []figureRow       // on what they were measured, where it is not the same
	Groups  []figureGroup
	Fault   string // why one of them could not be read
}

// A figureGroup is the figures of one benchmark that both runs have.
type figureGroup struct {
	Name string
	Rows []figureRow
}

// A figureRow is one figure of two runs.
type figureRow struct {
	Name, A, B string
	Ratio      string // B to A; empty if A is 0
	Trend      string // better or worse; empty where neither is known
}

func (p *Page) compare(r *http.Request, _ agent.Status) view {
	var (
		c    comparison
		runs []*results.Run
	)
	ids := r.URL.Query()["job"]
	for _, id := range ids[:min(len(ids), 3)] {
		if j, err := p.a.Job(id); err == nil {
			c.Jobs = append(c.Jobs, j)
		}
	}
	if len(c.Jobs) != 2 || len(ids) != 2 {
		return view{status: http.StatusBadRequest, name: "fault", here: "jobs", data: "Choose two jobs to compare: tick them in the history, then press Compare."}
	}
	for _, j := range c.Jobs {
		run, err := read(r.Context(), p.disk, diskWait, func(context.Context) (*results.Run, error) { return results.Read(j.Dir) })
		if err != nil {
			c.Fault = err.Error()
			return view{name: "compare", here: "jobs", data: c}
		}
		runs = append(runs, run)
	}
	c.Differs, c.Groups = differences(runs[0].Identity, runs[1].Identity), figures(runs[0], runs[1])
	return view{name: "compare", here: "jobs", data: c}
}

// differences returns the fields in which two identities differ, in their order.
func differences(a, b results.Identity) (rows []figureRow) {
	both := results.Identity{}
	maps.Copy(both, a)
	maps.Copy(both, b)
	for _, field := range slices.Sorted(maps.Keys(both)) {
		if a[field] != b[field] {
			rows = append(rows, figureRow{Name: strings.ReplaceAll(field, "_", " "), A: cmp.Or(a[field], "–"), B: cmp.Or(b[field], "–")})
		}
	}
	return rows
}

// figures pairs the figures of two runs by their names, in groups by benchmark.
func figures(a, b *results.Run) (groups []figureGroup) {
	for _, m := range a.Metrics[:min(len(a.Metrics), maxFigures)] {
		other := b.Metric(m.Name)
		if other == nil {
			continue
		}
		group, name, found := strings.Cut(m.Name, ".")
		if !found {
			group, name = "", m.Name
		}
		if n := len(groups); n == 0 || groups[n-1].Name != group {
			groups = append(groups, figureGroup{Name: group})
		}
		row := figureRow{Name: name, A: web.MetricText(m.Value), B: web.MetricText(other.Value)}
		if m.Value != 0 {
			row.Ratio = strconv.FormatFloat(other.Value/m.Value, 'f', 3, 64)
		}
		switch {
		case m.Better == "" || m.Value == other.Value:
		case (m.Better == results.Higher) == (other.Value > m.Value):
			row.Trend = "better"
		default:
			row.Trend = "worse"
		}
		last := &groups[len(groups)-1]
		last.Rows = append(last.Rows, row)
	}
	return groups
}

// maxFigures is how many figures are compared.
const maxFigures = 2000
