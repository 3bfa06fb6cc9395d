package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A job is one span, and its steps follow each other within it.
func TestSpans(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	require.NoError(t, traceOneJob(t.Context(), provider.Tracer("test")))
	made := exporter.GetSpans()
	var names []string
	for _, s := range made {
		names = append(names, s.Name)
	}
	require.Equal(t, []string{"queue", "preparing", "running", "finishing", "deliver", "job"}, names)
	job := made[len(made)-1]
	require.Equal(t, codes.Ok, job.Status.Code)
	require.False(t, job.Parent.IsValid())
	before := job.StartTime
	for _, step := range made[:len(made)-1] {
		require.Equal(t, job.SpanContext.SpanID(), step.Parent.SpanID(), step.Name)
		require.Equal(t, before, step.StartTime, "%s begins where the step before it ended", step.Name)
		require.False(t, step.EndTime.Before(step.StartTime), step.Name)
		before = step.EndTime
	}
	require.Equal(t, before, job.EndTime)
}

func TestProgramPrintsSpans(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Contains(t, out.String(), `"Name": "running"`)
}
