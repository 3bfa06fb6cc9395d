// Command tracing embeds an agent and turns its events into OpenTelemetry spans: one for
// each job, with one for each step of its life. It is a module of its own, so that
// nothing of OpenTelemetry is linked by programs that don't want it.
//
// It runs one job of a server in memory and prints the spans. With an exporter of
// another kind in place of stdouttrace they go to a collector.
package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs an agent with one job, and prints its spans.
func run(ctx context.Context, out io.Writer) error {
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(out), stdouttrace.WithPrettyPrint())
	if err != nil {
		return err
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	if err := traceOneJob(ctx, provider.Tracer("kitt-agent")); err != nil {
		return err
	}
	return provider.Shutdown(ctx)
}

// traceOneJob runs an agent until its server has the result of a job.
func traceOneJob(ctx context.Context, tracer trace.Tracer) error {
	dir, err := os.MkdirTemp("", "tracing")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server := &agenttest.Server{}
	a, err := agent.New(agent.Config{
		Name: "gpu-1", Dir: dir, Server: server,
		Runner: &runnertest.Fake{Lines: []string{"loading", "measuring"}, Delay: 10 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	test := server.Launch("qwen2.5:7b")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := a.Events(ctx) // before Run, so that none is missed
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	delivered := make(chan struct{})
	go func() {
		// Spans go on until the first job is delivered.
		spans := newSpans(tracer, a)
		spans.follow(ctx, events, func(e agent.Event) bool { return e.Kind != agent.EventDelivered })
		close(delivered)
	}()
	if err := server.WaitEnded(ctx, test); err != nil {
		return err
	}
	<-delivered
	stop()
	return <-ended
}

// jobs is what spans are told of a job. An *agent.Agent is one.
type jobs interface {
	Job(id string) (agent.JobStatus, error)
}

// spans are those of jobs that have not been delivered.
type spans struct {
	tracer trace.Tracer
	jobs   jobs
	open   map[string]*jobSpans // by job; used by one goroutine
}

// jobSpans are the spans of one job.
type jobSpans struct {
	whole context.Context // with the span of the job; a parent for those of its steps
	step  trace.Span
}

func newSpans(tracer trace.Tracer, jobs jobs) *spans {
	return &spans{tracer: tracer, jobs: jobs, open: map[string]*jobSpans{}}
}

// follow makes spans of events until there are no more, or until more returns false.
func (s *spans) follow(ctx context.Context, events iter.Seq[agent.Event], more func(agent.Event) bool) {
	for e := range events {
		if e.JobID != "" {
			s.event(ctx, e)
		}
		if !more(e) {
			return
		}
	}
}

// event makes or ends the spans that e is about.
func (s *spans) event(ctx context.Context, e agent.Event) {
	job, err := s.jobs.Job(e.JobID)
	if err != nil {
		return // it was removed
	}
	j := s.open[e.JobID]
	if j == nil { // accepted, or resumed by this process
		whole, _ := s.tracer.Start(ctx, "job", trace.WithNewRoot(), trace.WithTimestamp(job.AcceptedAt), trace.WithAttributes(
			attribute.String("kitt.command_id", job.CommandID), attribute.String("kitt.test_id", job.TestID),
			attribute.String("kitt.model", job.Model), attribute.String("kitt.engine", job.Engine), attribute.String("kitt.suite", job.Suite),
		))
		j = &jobSpans{whole: whole}
		j.next(s.tracer, "queue", job.AcceptedAt)
		s.open[e.JobID] = j
	}
	switch e.Kind {
	case agent.EventState:
		j.next(s.tracer, string(e.State), e.Time)
	case agent.EventCopy:
		j.step.AddEvent("copy", trace.WithTimestamp(e.Time), trace.WithAttributes(
			attribute.Int64("kitt.bytes_done", e.Copy.BytesDone), attribute.Int64("kitt.bytes_total", e.Copy.BytesTotal)))
	case agent.EventEnded:
		// The last step is that of the reports, which may take as long as an outage.
		j.next(s.tracer, "deliver", job.EndedAt)
		whole := trace.SpanFromContext(j.whole)
		whole.SetAttributes(attribute.String("kitt.state", string(job.State)), attribute.Int64("kitt.log_lines", job.LogLines))
		if job.State == agent.StateCompleted {
			whole.SetStatus(codes.Ok, "")
		} else {
			whole.SetStatus(codes.Error, job.Error)
		}
	case agent.EventDelivered:
		j.step.End(trace.WithTimestamp(e.Time))
		trace.SpanFromContext(j.whole).End(trace.WithTimestamp(e.Time))
		delete(s.open, e.JobID)
	case agent.EventAccepted, agent.EventServerReachable, agent.EventServerUnreachable, agent.EventLost:
	}
}

// next ends the current step and begins the next one.
func (j *jobSpans) next(tracer trace.Tracer, name string, at time.Time) {
	if j.step != nil {
		j.step.End(trace.WithTimestamp(at))
	}
	_, j.step = tracer.Start(j.whole, name, trace.WithTimestamp(at))
}
