package kittapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/runner"
)

// report is the result of a job in the server's form.
type report struct {
	CommandID   string         `json:"command_id"`
	Status      string         `json:"status"`
	ContainerID string         `json:"container_id"`
	Error       string         `json:"error"`
	Data        map[string]any `json:"result_data,omitempty"`
}

// ReportResult delivers the result of a job of the agent with the given id or
// name. Its data is cleaned, whoever made it.
func (c *Client) ReportResult(ctx context.Context, agentID string, r agent.Result) error {
	data, _ := CleanResult(r.Data)
	var answer struct {
		Accepted bool `json:"accepted"`
	}
	return c.do(ctx, call{
		method: http.MethodPost, path: "/agents/" + url.PathEscape(agentID) + "/results", token: c.token,
		body:   report{CommandID: r.CommandID, Status: r.Status, ContainerID: r.ContainerID, Error: r.Error, Data: data},
		answer: &answer, shape: func() bool { return answer.Accepted },
	})
}

// CheckResult is CleanResult.
func (c *Client) CheckResult(data map[string]any) (map[string]any, []string) {
	return CleanResult(data)
}

// HasResult reports whether the server holds a result with this model, engine
// and timestamp.
func (c *Client) HasResult(ctx context.Context, model, engine, timestamp string) (bool, error) {
	query := url.Values{"per_page": {"100"}}
	if model != "" {
		query.Set("model", model)
	}
	if engine != "" {
		query.Set("engine", engine)
	}
	var items []any
	err := c.do(ctx, call{
		method: http.MethodGet, path: "/results/?" + query.Encode(), token: c.token, limit: maxLogs,
		answer: &items, shape: func() bool { return items != nil }, decode: decodeItems,
	})
	if err != nil {
		return false, err
	}
	for _, item := range items {
		result, _ := item.(map[string]any)
		if result["model"] == model && result["engine"] == engine && result["timestamp"] == timestamp {
			return true, nil
		}
	}
	return false, nil
}

// decodeItems takes the items out of a list of results, which may hold NaN, as
// Python writes it.
func decodeItems(text []byte, into any) error {
	v, err := runner.DecodeLenient(text)
	if err != nil {
		return err
	}
	list, _ := v.(map[string]any)
	*into.(*[]any), _ = list["items"].([]any)
	return nil
}
