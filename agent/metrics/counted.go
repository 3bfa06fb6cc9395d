package metrics

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// maxClasses bounds the values of the label class: runners may have classes of their own.
const maxClasses = 32

// otherClass stands for the classes beyond them, and for failures without a class.
const otherClass = "other"

// verdicts are those on a whole run.
var verdicts = []integrity.Grade{integrity.Valid, integrity.Warning, integrity.Invalid, integrity.Unjudged}

// counted holds what is counted from events and from differences between two statuses.
type counted struct {
	ended      *prometheus.CounterVec // by outcome
	failed     *prometheus.CounterVec // by class
	judged     *prometheus.CounterVec // by verdict
	duration   *prometheus.HistogramVec
	queued     prometheus.Histogram
	lines      prometheus.Counter
	refused    prometheus.Counter
	copied     prometheus.Counter
	copies     *prometheus.CounterVec // by result
	xids       *prometheus.CounterVec // by gpu and xid
	eventsLost prometheus.Counter

	mu      sync.Mutex
	jobs    map[string]*progress // by id. guarded by mu
	lastXID map[int]int64        // by GPU. guarded by mu
	classes map[string]bool      // guarded by mu
}

// progress is what was counted of one job.
type progress struct {
	lines, refused int64 // of its log
	copied         int64 // bytes of the copy in progress
	copying        bool
	ended          bool // it is kept until no status lists the job
}

// histogram has exponential buckets that are at most a tenth wide, and the given ones for
// servers that know no native histograms.
func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

func newCounted() *counted {
	count := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
	}
	c := &counted{
		ended: prometheus.NewCounterVec(count("jobs_ended_total", "Jobs that ended, by outcome."), []string{"outcome"}),
		failed: prometheus.NewCounterVec(count("jobs_failed_total",
			"Jobs that failed, by the class of the failure."), []string{"class"}),
		judged: prometheus.NewCounterVec(count("runs_judged_total",
			"Benchmarks, by whether the machine was fit to be measured meanwhile."), []string{"verdict"}),
		duration: prometheus.NewHistogramVec(histogram("job_duration_seconds",
			"Time from the start of a benchmark to the end of its job, by outcome. Other jobs, such as starts of engines, are left out.",
			[]float64{10, 30, 60, 300, 600, 1800, 3600, 2 * 3600, 4 * 3600, 12 * 3600, 24 * 3600}), []string{"outcome"}),
		queued: prometheus.NewHistogram(histogram("job_queue_seconds",
			"Time from a job's acceptance to the start of its benchmark, the copy of its model included.",
			[]float64{1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600})),
		lines:   prometheus.NewCounter(count("log_lines_total", "Lines in the logs of jobs.")),
		refused: prometheus.NewCounter(count("log_lines_missing_total", "Lines that are missing in the logs of jobs, because the disk refused them.")),
		copied:  prometheus.NewCounter(count("store_copied_bytes_total", "Bytes of models copied to local disk.")),
		copies: prometheus.NewCounterVec(count("store_copies_total",
			"Copies of models for jobs, by whether the job went on with the model."), []string{"result"}),
		xids: prometheus.NewCounterVec(count("gpu_xid_errors_total",
			"XID errors of the NVIDIA driver, by number. Several of the same number between two readings count as one."), []string{"gpu", "xid"}),
		eventsLost: prometheus.NewCounter(count("metrics_events_lost_total",
			"Events that came faster than they were counted. Other counters lack them.")),
		jobs: map[string]*progress{}, lastXID: map[int]int64{}, classes: map[string]bool{},
	}
	for _, outcome := range []agent.State{agent.StateCompleted, agent.StateFailed, agent.StateCancelled} {
		c.ended.WithLabelValues(string(outcome))
	}
	for _, verdict := range verdicts {
		c.judged.WithLabelValues(string(verdict))
	}
	for _, result := range []string{"completed", "failed"} {
		c.copies.WithLabelValues(result)
	}
	return c
}

func (c *counted) all() []prometheus.Collector {
	return []prometheus.Collector{c.ended, c.failed, c.judged, c.duration, c.queued, c.lines, c.refused, c.copied, c.copies, c.xids, c.eventsLost}
}

func (c *counted) describe(descs chan<- *prometheus.Desc) {
	for _, each := range c.all() {
		each.Describe(descs)
	}
}

func (c *counted) collect(out chan<- prometheus.Metric) {
	for _, each := range c.all() {
		each.Collect(out)
	}
}

// event counts e.
func (c *counted) event(a Agent, e agent.Event) {
	switch e.Kind {
	case agent.EventLost:
		c.eventsLost.Add(float64(e.Lost))
		c.forget(a.Status())
	case agent.EventCopy:
		if e.Copy != nil {
			c.copyAdvanced(e.JobID, e.Copy.BytesDone)
		}
	case agent.EventState:
		if e.State == agent.StateRunning {
			c.started(a, e.JobID)
		}
	case agent.EventEnded:
		c.jobEnded(a, e.JobID)
	case agent.EventAccepted, agent.EventDelivered, agent.EventServerReachable, agent.EventServerUnreachable:
	}
}

// copyAdvanced counts what a copy has done since the last event.
func (c *counted) copyAdvanced(id string, done int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.jobLocked(id)
	p.copying = true
	if done < p.copied { // another attempt
		p.copied = 0
	}
	c.copied.Add(float64(done - p.copied))
	p.copied = done
}

// started counts the start of a benchmark.
func (c *counted) started(a Agent, id string) {
	if j, err := a.Job(id); err == nil && j.Type == agent.TypeRunTest && !j.StartedAt.IsZero() {
		c.queued.Observe(max(0, j.StartedAt.Sub(j.AcceptedAt).Seconds()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.jobLocked(id); p.copying {
		p.copying = false
		c.copies.WithLabelValues("completed").Inc()
	}
}

// jobEnded counts the end of a job.
func (c *counted) jobEnded(a Agent, id string) {
	j, err := a.Job(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.jobLocked(id)
	p.ended = true
	if p.copying {
		c.copies.WithLabelValues("failed").Inc()
	}
	if err != nil {
		return // removed meanwhile
	}
	outcome := string(j.State)
	c.ended.WithLabelValues(outcome).Inc()
	if j.State == agent.StateFailed {
		c.failed.WithLabelValues(c.classLocked(j.Class)).Inc()
	}
	if j.Integrity != nil && slices.Contains(verdicts, integrity.Grade(j.Integrity.Verdict)) {
		c.judged.WithLabelValues(j.Integrity.Verdict).Inc()
	}
	if j.Type == agent.TypeRunTest && !j.StartedAt.IsZero() {
		c.duration.WithLabelValues(outcome).Observe(max(0, j.EndedAt.Sub(j.StartedAt).Seconds()))
	}
	c.countLinesLocked(p, j)
}

// observe counts what has changed since the status before.
func (c *counted) observe(s agent.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	listed := map[string]bool{}
	for _, j := range s.Jobs {
		if !j.State.Active() {
			continue
		}
		listed[j.CommandID] = true
		if p := c.jobs[j.CommandID]; p == nil && !j.StartedAt.IsZero() && j.StartedAt.Before(s.StartedAt) {
			// An agent before this one has counted these.
			c.jobs[j.CommandID] = &progress{lines: j.LogLines, refused: j.LogRefused}
		}
		c.countLinesLocked(c.jobLocked(j.CommandID), j)
	}
	maps.DeleteFunc(c.jobs, func(id string, p *progress) bool { return p.ended && !listed[id] })
	for _, g := range recent(s.Telemetry) {
		if g.LastXID == nil || *g.LastXID == c.lastXID[g.Index] {
			continue
		}
		c.lastXID[g.Index] = *g.LastXID
		c.xids.WithLabelValues(strconv.Itoa(g.Index), strconv.FormatInt(*g.LastXID, 10)).Inc()
	}
}

func (c *counted) countLinesLocked(p *progress, j agent.JobStatus) {
	c.lines.Add(float64(max(0, j.LogLines-p.lines)))
	c.refused.Add(float64(max(0, j.LogRefused-p.refused)))
	p.lines, p.refused = max(p.lines, j.LogLines), max(p.refused, j.LogRefused)
}

// jobLocked returns what was counted of a job. c.mu must be held.
func (c *counted) jobLocked(id string) *progress {
	p := c.jobs[id]
	if p == nil {
		p = &progress{}
		c.jobs[id] = p
	}
	return p
}

// classLocked returns the label of a class of failures. c.mu must be held.
func (c *counted) classLocked(class string) string {
	if class == "" || !c.classes[class] && len(c.classes) >= maxClasses {
		return otherClass
	}
	c.classes[class] = true
	return class
}

// forget drops the jobs that s does not list: the event of their end may be lost.
func (c *counted) forget(s agent.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.jobs {
		if s.Job(id) == nil {
			delete(c.jobs, id)
		}
	}
}
