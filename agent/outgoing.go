package agent

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
// A Reporter that embeds one and has a ReportResult of its own needs a
// ReportEncodedResult of its own too: the agent calls only the latter.
type EncodedReporter interface {
	// ReportEncodedResult is ReportResult for a result whose data is JSON text.
	ReportEncodedResult(ctx context.Context, agentID string, result EncodedResult) error
}

// An EncodedResult is a [Result] whose data is JSON text.
type EncodedResult struct {
	CommandID   string
	Status      string // completed or failed
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

// An outgoing is a job's report on its way to a server.
type outgoing struct {
	encoded EncodedResult
	file    *resultFile // where the data is; nil for none
	decoded *Result     // for a Reporter that takes no encoded data; nil until it is needed
}

// openOutgoing opens the report in the file at path. A file whose data no Checker
// has seen, as of an older agent, is checked and written again first; said gets
// what was changed.
func openOutgoing(path string, reporter Reporter, said func(note string)) (*outgoing, error) {
	f, err := openResultFile(path)
	if err != nil {
		return nil, err
	}
	if checker, ok := reporter.(Checker); ok && f.size > 0 && !f.saved.Checked {
		err := recheck(path, f, checker, said)
		f.Close()
		if err != nil {
			return nil, err
		}
		if f, err = openResultFile(path); err != nil {
			return nil, err
		}
	}
	return &outgoing{encoded: f.encoded(), file: f}, nil
}

// recheck checks the data of f and writes it again to path.
func recheck(path string, f *resultFile, checker Checker, said func(note string)) error {
	result, err := f.encoded().Decode()
	if err != nil {
		return err
	}
	saved := f.saved
	data, notes := checker.CheckResult(result.Data)
	for _, note := range notes {
		said(note)
	}
	saved.Version, saved.Checked, saved.Data = recordVersion, true, data
	return writeResultFile(path, saved)
}

// send sends the report on behalf of the agent with this id or name.
func (o *outgoing) send(ctx context.Context, reporter Reporter, agentID string) error {
	if r, ok := reporter.(EncodedReporter); ok {
		return r.ReportEncodedResult(ctx, agentID, o.encoded)
	}
	if o.decoded == nil {
		result, err := o.encoded.Decode()
		if err != nil {
			return err
		}
		o.decoded = &result
	}
	return reporter.ReportResult(ctx, agentID, *o.decoded)
}

// known asks whether the server holds the report's data already.
func (o *outgoing) known(ctx context.Context, ask Inquirer) (bool, error) {
	if ask == nil || o.encoded.Size == 0 || o.file.timestamp == "" {
		return false, nil // there is nothing to tell it by
	}
	return ask.HasResult(ctx, o.file.model, o.file.engine, o.file.timestamp)
}

// dropData leaves the data out from now on, and reports whether there was any.
func (o *outgoing) dropData() bool {
	had := o.encoded.Size > 0
	o.encoded.Data, o.encoded.Size, o.decoded = nil, 0, nil
	return had
}

// Close closes the file.
func (o *outgoing) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
