package kittapi

import (
	"bytes"
	"context"
	"net/http"

	"github.com/kirizan/kitt-agent/agent/reporter"
)

// ReportStatus sets a test's status: running, completed or failed, the last two with
// a reason. The server accepts any change, even from completed to running, so the
// caller must not send such a change.
func (c *Client) ReportStatus(ctx context.Context, testID string, status reporter.Status, reason string) error {
	body := struct {
		Status reporter.Status `json:"status"`
		Error  string          `json:"error"`
	}{status, reason}
	return c.post(ctx, testID, "/status", body)
}

// ReportLog appends text to a test's log as one row. The server's page shows a row as
// one line.
func (c *Client) ReportLog(ctx context.Context, testID, text string) error {
	body := struct {
		Line string `json:"line"`
	}{text}
	return c.post(ctx, testID, "/logs", body)
}

func (c *Client) post(ctx context.Context, testID, what string, body any) error {
	part, err := segment(testID)
	if err != nil {
		return err
	}
	return c.do(ctx, request{
		method: http.MethodPost, path: "/quicktest/" + part + what, key: serverKey, body: body,
		answer: func(b []byte) error { return confirmed(b, "ok") },
	})
}

// report is the body of a result. The server reads only ResultData, and stores
// nothing without it.
type report struct {
	CommandID   string          `json:"command_id"`
	Status      reporter.Status `json:"status"`
	ContainerID string          `json:"container_id"`
	Error       string          `json:"error"`
	ResultData  map[string]any  `json:"result_data,omitempty"`
}

// ReportResult sends the result of a job for the agent with the given id or name. It
// cleans the data with [CleanResult] and logs the changes. The server does not detect
// duplicates; see [Client.HasResult].
func (c *Client) ReportResult(ctx context.Context, agentID string, result reporter.Result) error {
	part, err := segment(agentID)
	if err != nil {
		return err
	}
	data, notes := CleanResult(result.Data)
	for _, note := range notes {
		c.log.WarnContext(ctx, "result data corrected", "job", result.CommandID, "change", note)
	}
	return c.do(ctx, request{
		method: http.MethodPost, path: "/agents/" + part + "/results", key: agentKey,
		body: report{
			CommandID: result.CommandID, Status: result.Status, ContainerID: result.ContainerID,
			Error: result.Error, ResultData: data,
		},
		answer: func(b []byte) error { return confirmed(b, "accepted") },
	})
}

// ReportEncodedResult is ReportResult for data that [CleanResult] returned and package
// json encoded. It streams the data unchanged.
func (c *Client) ReportEncodedResult(ctx context.Context, agentID string, result reporter.EncodedResult) error {
	part, err := segment(agentID)
	if err != nil {
		return err
	}
	head, err := encode(report{
		CommandID: result.CommandID, Status: result.Status, ContainerID: result.ContainerID, Error: result.Error,
	})
	if err != nil {
		return err
	}
	body := &encodedBody{head: head}
	if result.Size > 0 {
		head = append(bytes.TrimSuffix(head, []byte("}\n")), `,"result_data":`...)
		body = &encodedBody{head: head, data: result.Data, size: result.Size, tail: []byte("}\n")}
	}
	return c.do(ctx, request{
		method: http.MethodPost, path: "/agents/" + part + "/results", key: agentKey, encoded: body,
		answer: func(b []byte) error { return confirmed(b, "accepted") },
	})
}

// CheckResult returns the result of [CleanResult].
func (c *Client) CheckResult(data map[string]any) (clean map[string]any, notes []string) {
	return CleanResult(data)
}

// confirmed checks that body is an object in which the field with the given name
// is true.
func confirmed(body []byte, name string) error {
	var fields map[string]any
	if err := unmarshal(body, &fields); err != nil {
		return err
	}
	if fields[name] != true {
		return errShape(name)
	}
	return nil
}
