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
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// maxPages is the most pages of a list that are read.
const maxPages = 50

// Test returns the part of the server's record of a test that an agent needs.
func (c *Client) Test(ctx context.Context, testID string) (reporter.Test, error) {
	row, err := c.TestByID(ctx, testID)
	if err != nil {
		return reporter.Test{}, err
	}
	status := reporter.Status(row.Status)
	return reporter.Test{
		ID: row.ID, CommandID: row.CommandID, Status: status, Error: row.Error,
		Reopened: status == reporter.Running && row.CompletedAt != "", // the server leaves it when it sets a test running
	}, nil
}

// LogRows returns all rows of a test's log, in order. A row is the text of one
// [Client.ReportLog].
func (c *Client) LogRows(ctx context.Context, testID string) ([]string, error) {
	part, err := segment(testID)
	if err != nil {
		return nil, err
	}
	var rows []string
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/quicktest/" + part + "/logs", limit: maxLog,
		answer: parsedInto(&rows, parseRows),
	})
	return rows, err
}

func parseRows(body []byte) ([]string, error) {
	var answer struct {
		Lines *[]struct {
			Line text `json:"line"`
		} `json:"lines"`
	}
	if err := unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Lines == nil {
		return nil, errShape("lines")
	}
	rows := make([]string, len(*answer.Lines))
	for i, row := range *answer.Lines {
		rows[i] = string(row.Line)
	}
	return rows, nil
}

// HasResult reports whether the server has a result with exactly this model, engine
// and timestamp. It checks the newest 1,000 results of that model and engine.
func (c *Client) HasResult(ctx context.Context, model, engine, timestamp string) (bool, error) {
	query := url.Values{"per_page": {"20"}}
	// An empty parameter would not filter.
	if model != "" {
		query.Set("model", model)
	}
	if engine != "" {
		query.Set("engine", engine)
	}
	for page := 1; page <= maxPages; page++ {
		query.Set("page", strconv.Itoa(page))
		var results resultPage
		err := c.do(ctx, request{
			method: http.MethodGet, path: "/results/", query: query, limit: maxList,
			answer: parsedInto(&results, parseResults),
		})
		if err != nil {
			return false, err
		}
		for _, r := range results.Items {
			if r.is(model, engine, timestamp) {
				return true, nil
			}
			if string(r.Timestamp) < timestamp {
				return false, nil // they are sorted by timestamp, the newest first
			}
		}
		if len(results.Items) == 0 || page >= results.Pages {
			return false, nil
		}
	}
	return false, nil
}

// resultPage is a page of the list of results, with only the fields that identify
// a result.
type resultPage struct {
	Items []resultKey `json:"items"`
	Pages int         `json:"pages"`
}

type resultKey struct {
	Model     text `json:"model"`
	Engine    text `json:"engine"`
	Timestamp text `json:"timestamp"`
}

func (r resultKey) is(model, engine, timestamp string) bool {
	return r.Model == text(model) && r.Engine == text(engine) && r.Timestamp == text(timestamp)
}

func parseResults(body []byte) (resultPage, error) {
	var page resultPage
	if err := unmarshal(body, &page); err != nil {
		return resultPage{}, err
	}
	if page.Items == nil {
		return resultPage{}, errShape("items")
	}
	return page, nil
}

// Dispatched returns the commands that the server sent to the named agent and for
// which it has received no status, oldest first. Their ages are by the server's clock,
// so that a clock or zone that differs from this machine's makes no command older.
func (c *Client) Dispatched(ctx context.Context, agentName string) ([]reporter.DispatchedCommand, error) {
	var tests []TestRow
	var date time.Time
	for page := 1; page <= maxPages; page++ {
		rows, err := c.tests(ctx, Filter{Agent: agentName, Status: "dispatched", Page: page, PerPage: 100}, &date)
		if err != nil {
			return nil, err
		}
		tests = append(tests, rows.Items...)
		if len(rows.Items) == 0 || page >= rows.Pages {
			break
		}
	}
	if len(tests) == 0 {
		return nil, nil
	}
	clock := c.serverClock(ctx, tests[0].AgentID, date)
	commands := make([]reporter.DispatchedCommand, len(tests))
	for i, test := range tests {
		commands[i] = test.command(clock)
	}
	// The server sorts newest first, but compares two forms of time as strings.
	slices.Reverse(commands)
	slices.SortStableFunc(commands, func(a, b reporter.DispatchedCommand) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return commands, nil
}

// FindTest returns the id of the test of the named agent's command with this id, or
// an empty string if no dispatched or running test has that command.
func (c *Client) FindTest(ctx context.Context, agentName, commandID string) (string, error) {
	for _, status := range []string{"running", "dispatched"} {
		for page := 1; page <= maxPages; page++ {
			rows, err := c.Tests(ctx, Filter{Agent: agentName, Status: status, Page: page, PerPage: 100})
			if err != nil {
				return "", err
			}
			for _, row := range rows.Items {
				if row.CommandID == commandID {
					return row.ID, nil
				}
			}
			if len(rows.Items) == 0 || page >= rows.Pages {
				break
			}
		}
	}
	return "", nil
}

// command returns the command that the heartbeat's answer had for the test.
func (t TestRow) command(clock serverClock) reporter.DispatchedCommand {
	kind := agent.TypeRunTest
	switch {
	case t.EngineName == "cleanup":
		kind = agent.TypeCleanupStorage
	case t.BenchmarkName == agent.TypeInstallEngine, t.BenchmarkName == agent.TypeStartEngine, t.BenchmarkName == agent.TypeStopEngine:
		kind = t.BenchmarkName
	}
	payload := map[string]any{
		"model_path": t.ModelPath, "engine_name": t.EngineName, "benchmark_name": t.BenchmarkName,
		"suite_name": t.SuiteName, "engine_mode": t.EngineMode, "profile_id": t.ProfileID,
	}
	if kind != agent.TypeRunTest && kind != agent.TypeCleanupStorage {
		payload["runtime_config"] = runtimeConfig(t.ProfileID)
	}
	text, err := encode(payload)
	if err != nil {
		text = []byte("{}") // not reached: strings and JSON can be encoded
	}
	return reporter.DispatchedCommand{
		Command:   heartbeat.Command{ID: t.CommandID, TestID: t.ID, Type: kind, Payload: text},
		CreatedAt: clock.parse(t.CreatedAt),
	}
}

// runtimeConfig returns the settings of an engine, which the server stores as text
// in the profile.
func runtimeConfig(profile string) json.RawMessage {
	body := strict([]byte(profile))
	if !json.Valid(body) {
		return json.RawMessage("{}")
	}
	return body
}

// ParseTime parses a time of the server, and reports whether it is valid. The server
// uses two forms without a zone: its local time with a T, and UTC with a space. Local
// times are read in this machine's zone.
func ParseTime(text string) (time.Time, bool) {
	if t, err := time.ParseInLocation("2006-01-02T15:04:05", text, time.Local); err == nil {
		return t, true
	}
	t, err := time.Parse(time.DateTime, text)
	return t, err == nil
}
