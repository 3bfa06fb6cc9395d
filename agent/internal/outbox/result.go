package outbox

import (
	"context"

	"github.com/kirizan/kitt-agent/agent/reporter"
)

// An outgoingResult is a job's report on its way to a server.
type outgoingResult struct {
	encoded reporter.EncodedResult
	file    *resultFile      // where the data is; nil for none
	decoded *reporter.Result // for a Reporter that takes no encoded data; nil until it is needed
}

// openResult opens the report in the file at path. A file whose data no Checker
// has seen, as of an older agent, is checked and written again first; changed
// is called with a sentence for each change.
func openResult(path string, to reporter.Reporter, changed func(note string)) (*outgoingResult, error) {
	f, err := openResultFile(path)
	if err != nil {
		return nil, err
	}
	if checker, ok := reporter.As[reporter.Checker](to); ok && f.size > 0 && !f.saved.Checked {
		err := recheck(path, f, checker, changed)
		f.Close()
		if err != nil {
			return nil, err
		}
		if f, err = openResultFile(path); err != nil {
			return nil, err
		}
	}
	return &outgoingResult{encoded: f.encoded(), file: f}, nil
}

// recheck checks the data of f and writes it again to path.
func recheck(path string, f *resultFile, checker reporter.Checker, changed func(note string)) error {
	result, err := f.encoded().Decode()
	if err != nil {
		return err
	}
	saved := f.saved
	data, notes := checker.CheckResult(result.Data)
	for _, note := range notes {
		changed(note)
	}
	saved.Version, saved.Checked, saved.Data = resultVersion, true, data
	return writeResultFile(path, saved)
}

// send sends the report on behalf of the agent with this id or name.
func (o *outgoingResult) send(ctx context.Context, to reporter.Reporter, agentID string) error {
	if r, ok := to.(reporter.EncodedReporter); ok { // not below a wrapper, which wants to see the result
		return r.ReportEncodedResult(ctx, agentID, o.encoded)
	}
	if o.decoded == nil {
		result, err := o.encoded.Decode()
		if err != nil {
			return err
		}
		o.decoded = &result
	}
	return to.ReportResult(ctx, agentID, *o.decoded)
}

// known asks whether the server holds the report's data already.
func (o *outgoingResult) known(ctx context.Context, ask reporter.Inquirer) (bool, error) {
	if ask == nil || o.encoded.Size == 0 || o.file.timestamp == "" {
		return false, nil // there is nothing to tell it by
	}
	return ask.HasResult(ctx, o.file.model, o.file.engine, o.file.timestamp)
}

// sendWithoutData returns what sends the report without its data; nil if it has none.
func (o *outgoingResult) sendWithoutData(s *sender) func(context.Context) error {
	if o.encoded.Size == 0 {
		return nil
	}
	bare := &outgoingResult{encoded: o.encoded}
	bare.encoded.Data, bare.encoded.Size = nil, 0
	return func(ctx context.Context) error { return s.sendOnce(ctx, bare) }
}

// Close closes the file.
func (o *outgoingResult) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
