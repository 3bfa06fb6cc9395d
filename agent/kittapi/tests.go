package kittapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// testPath returns the address of a test, or of something of it.
func testPath(testID, what string) string { return "/quicktest/" + url.PathEscape(testID) + what }

// ReportStatus sets a test's status. A reason counts only with completed and
// failed.
func (c *Client) ReportStatus(ctx context.Context, testID, status, reason string) error {
	return c.post(ctx, testPath(testID, "/status"), map[string]string{"status": status, "error": reason})
}

// ReportLog appends a row to a test's log.
func (c *Client) ReportLog(ctx context.Context, testID, text string) error {
	return c.post(ctx, testPath(testID, "/logs"), map[string]string{"line": text})
}

// post makes a call that is answered with {"ok": true}.
func (c *Client) post(ctx context.Context, path string, body any) error {
	var answer struct {
		OK bool `json:"ok"`
	}
	return c.do(ctx, call{
		method: http.MethodPost, path: path, token: c.statusToken(), body: body,
		answer: &answer, shape: func() bool { return answer.OK },
	})
}

// A TestRow is the server's record of a test.
type TestRow struct {
	ID            string `json:"id"`
	AgentID       string `json:"agent_id"`
	AgentName     string `json:"agent_name"` // only in lists
	CommandID     string `json:"command_id"`
	ModelPath     string `json:"model_path"`
	EngineName    string `json:"engine_name"`
	BenchmarkName string `json:"benchmark_name"`
	SuiteName     string `json:"suite_name"`
	EngineMode    string `json:"engine_mode"`
	ProfileID     string `json:"profile_id"`
	Status        string `json:"status"`
	Error         string `json:"error"`
	CreatedAt     string `json:"created_at"` // as the server wrote it; see ParseTime
	StartedAt     string `json:"started_at"`
	CompletedAt   string `json:"completed_at"`
}

// TestByID returns the record of a test.
func (c *Client) TestByID(ctx context.Context, testID string) (TestRow, error) {
	var row TestRow
	err := c.do(ctx, call{
		method: http.MethodGet, path: testPath(testID, ""), token: c.token,
		answer: &row, shape: func() bool { return row.ID != "" && row.Status != "" },
	})
	return row, err
}

// Test returns what an agent needs to know of a test.
func (c *Client) Test(ctx context.Context, testID string) (agent.Test, error) {
	row, err := c.TestByID(ctx, testID)
	if err != nil {
		return agent.Test{}, err
	}
	return agent.Test{ID: row.ID, CommandID: row.CommandID, Status: row.Status, Error: row.Error}, nil
}

// LogRows returns all rows of a test's log, in order.
func (c *Client) LogRows(ctx context.Context, testID string) ([]string, error) {
	var answer struct {
		Lines *[]struct {
			Line string `json:"line"`
		} `json:"lines"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: testPath(testID, "/logs"), token: c.token, limit: maxLogs,
		answer: &answer, shape: func() bool { return answer.Lines != nil },
	})
	if err != nil {
		return nil, err
	}
	rows := make([]string, len(*answer.Lines))
	for i, l := range *answer.Lines {
		rows[i] = l.Line
	}
	return rows, nil
}

// A Filter chooses tests of a list. Empty fields choose all.
type Filter struct {
	Agent   string // name
	Status  string
	Page    int // from 1; 0 means 1
	PerPage int // 1 to 100; 0 means 20
}

// TestPage is a page of a list of tests, the newest first.
type TestPage struct {
	Items []TestRow `json:"items"`
	Total int       `json:"total"`
	Page  int       `json:"page"`
	Pages int       `json:"pages"`
}

// Tests returns a page of the tests that f chooses.
func (c *Client) Tests(ctx context.Context, f Filter) (TestPage, error) {
	query := url.Values{}
	for name, value := range map[string]string{"agent_name": f.Agent, "status": f.Status} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, value := range map[string]int{"page": f.Page, "per_page": f.PerPage} {
		if value != 0 {
			query.Set(name, strconv.Itoa(value))
		}
	}
	var page TestPage
	err := c.do(ctx, call{
		method: http.MethodGet, path: "/quicktest/?" + query.Encode(), token: c.token,
		answer: &page, shape: func() bool { return page.Items != nil },
	})
	return page, err
}

// maxPages bounds how many pages of dispatched tests are read.
const maxPages = 50

// Dispatched returns the commands that the server handed out to the named agent
// and heard nothing of since, oldest first.
func (c *Client) Dispatched(ctx context.Context, agentName string) ([]agent.DispatchedCommand, error) {
	var commands []agent.DispatchedCommand
	for page := 1; page <= maxPages; page++ {
		list, err := c.Tests(ctx, Filter{Agent: agentName, Status: "dispatched", Page: page, PerPage: 100})
		if err != nil {
			return nil, err
		}
		for _, row := range list.Items {
			if row.AgentName == agentName && row.Status == "dispatched" {
				commands = append(commands, row.command())
			}
		}
		if page >= list.Pages {
			break
		}
	}
	slices.Reverse(commands)
	return commands, nil
}

// command makes of a row the command that the server made of it.
func (row TestRow) command() agent.DispatchedCommand {
	kind := agent.TypeRunTest
	switch {
	case row.EngineName == "cleanup":
		kind = agent.TypeCleanupStorage
	case slices.Contains([]string{agent.TypeInstallEngine, agent.TypeStartEngine, agent.TypeStopEngine}, row.BenchmarkName):
		kind = row.BenchmarkName
	}
	payload, err := encode(map[string]string{
		"model_path": row.ModelPath, "engine_name": row.EngineName, "benchmark_name": row.BenchmarkName,
		"suite_name": row.SuiteName, "engine_mode": row.EngineMode, "profile_id": row.ProfileID,
	})
	if err != nil {
		payload = nil // texts always encode
	}
	created, _ := ParseTime(row.CreatedAt)
	return agent.DispatchedCommand{
		Command:   heartbeat.Command{ID: row.CommandID, TestID: row.ID, Type: kind, Payload: json.RawMessage(payload)},
		CreatedAt: created,
	}
}

// ParseTime reads a time of the server's, and reports whether it could. The
// server writes two forms, neither with a zone: its local time with a T, and
// UTC with a blank. Local time is taken for that of this machine.
func ParseTime(text string) (time.Time, bool) {
	if t, err := time.ParseInLocation("2006-01-02T15:04:05.999999", text, time.Local); err == nil {
		return t, true
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.UTC)
	return t, err == nil
}
