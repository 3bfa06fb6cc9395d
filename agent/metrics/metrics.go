// Package metrics exports the state of an agent to Prometheus. A program that does not
// import it links nothing of Prometheus.
//
//	m := metrics.New()
//	cfg.Metrics = m.Handler() // GET /metrics of the agent's API
//	a, err := agent.New(cfg)
//	events := a.Events(ctx)   // before Run, so that none is missed
//	go m.Follow(a, events)
//	err = a.Run(ctx)
//
// What happens, such as the end of a job, is counted from the agent's events. Everything
// else is read from its Status during a scrape. That holds readings of the machine that
// are up to 30 s old, so a scrape asks no GPU and no disk.
//
// Names, units and labels follow Prometheus' conventions. No label holds the name of a
// job, a model or a machine. Durations are native histograms, with a few buckets for
// servers without these.
package metrics

import (
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	namespace = "kitt_agent"

	// scrapeTimeout bounds the answer to a scrape, maxScrapes how many run at once.
	scrapeTimeout = 10 * time.Second
	maxScrapes    = 4
)

// An Agent is what metrics are read from. An [*agent.Agent] is one.
type Agent interface {
	// Status returns the agent's status now. It waits for no disk and no GPU.
	Status() agent.Status

	// Job returns the status of one job.
	Job(id string) (agent.JobStatus, error)

	// Machine returns the machine's description, nil if there is none, and GPUCounters
	// the counters of its GPUs, both as they were last read.
	Machine() *hwdetect.Machine
	GPUCounters() hwdetect.Counters
}

var _ Agent = (*agent.Agent)(nil)

// Metrics are the metrics of one agent. It is a [prometheus.Collector], for a registry
// of the embedding program, and its Handler serves one of its own. Until Follow is
// called it has nothing to say. Its methods are safe for concurrent use.
type Metrics struct {
	counted *counted
	tables  []table

	mu     sync.Mutex
	source Agent // guarded by mu

	scrape sync.Mutex // held while a status is read and counted, so that none is counted after a newer one
}

var _ prometheus.Collector = (*Metrics)(nil)

// New returns metrics of an agent that Follow names.
func New() *Metrics {
	return &Metrics{counted: newCounted(), tables: tables()}
}

// Follow reads metrics from a, and counts the agent's events until there are no more.
// It is called once.
func (m *Metrics) Follow(a Agent, events iter.Seq[agent.Event]) {
	m.mu.Lock()
	m.source = a
	m.mu.Unlock()
	for e := range events {
		m.counted.event(a, e)
	}
}

// A snapshot is what an agent says of itself at one moment.
type snapshot struct {
	agent.Status
	machine  *hwdetect.Machine // may be nil
	counters hwdetect.Counters
}

// status returns the agent's status, whose changes are counted.
func (m *Metrics) status(source Agent) agent.Status {
	m.scrape.Lock()
	defer m.scrape.Unlock()
	s := source.Status()
	m.counted.observe(s)
	return s
}

// Handler serves the metrics of the agent, the Go runtime and the process, in the format
// that the caller asks for.
func (m *Metrics) Handler() http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	})
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, t := range m.tables {
		descs <- t.desc
	}
	m.counted.describe(descs)
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	source := m.source
	m.mu.Unlock()
	if source == nil {
		return
	}
	s := snapshot{m.status(source), source.Machine(), source.GPUCounters()}
	for _, t := range m.tables {
		t.read(s, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(t.desc, t.kind, value, labels...)
		})
	}
	m.counted.collect(out)
}
