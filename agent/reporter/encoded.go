package reporter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// An EncodedReporter is a Reporter that sends result data as it was encoded. The
// agent gives it data from disk, so that a large result that the server doesn't
// take costs neither memory nor time while it waits. Any other Reporter gets the
// data decoded, which stays in memory until the server has taken it.
//
// If a Reporter is one, the agent calls ReportEncodedResult and never
// ReportResult. It does not look for an EncodedReporter below a wrapper, so that a
// wrapper's own ReportResult sees every result.
type EncodedReporter interface {
	// ReportEncodedResult is ReportResult for a result whose data is JSON text.
	ReportEncodedResult(ctx context.Context, agentID string, result EncodedResult) error
}

// An EncodedResult is a [Result] whose data is JSON text.
type EncodedResult struct {
	CommandID   string
	Status      Status // Completed or Failed
	ContainerID string
	Error       string

	// Data holds a JSON object of Size bytes, what Checker.CheckResult returned
	// as package json encodes it. Size is 0 if there is no data. Data can be read
	// until ReportEncodedResult returns.
	Data io.ReaderAt
	Size int64
}

// Decode returns the result with its data decoded.
func (r EncodedResult) Decode() (Result, error) {
	result := Result{CommandID: r.CommandID, Status: r.Status, ContainerID: r.ContainerID, Error: r.Error}
	if r.Size == 0 {
		return result, nil
	}
	if err := json.NewDecoder(io.NewSectionReader(r.Data, 0, r.Size)).Decode(&result.Data); err != nil {
		return Result{}, fmt.Errorf("decode result data: %w", err)
	}
	return result, nil
}
