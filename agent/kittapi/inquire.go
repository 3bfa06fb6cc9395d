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

// maxPages bounds how much of a list is read.
const maxPages = 50

// Test returns the server's record of a test.
func (c *Client) Test(ctx context.Context, testID string) (reporter.Test, error) {
	row, err := c.TestByID(ctx, testID)
	if err != nil {
		return reporter.Test{}, err
	}
	return reporter.Test{ID: row.ID, CommandID: row.CommandID, Status: reporter.Status(row.Status), Error: row.Error}, nil
}

// LogRows returns all rows of a test's log, in order. A row is what one
// [Client.ReportLog] sent.
func (c *Client) LogRows(ctx context.Context, testID string) ([]string, error) {
	part, err := segment(testID)
	if err != nil {
		return nil, err
	}
	var rows []string
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/quicktest/" + part + "/logs", limit: maxLog,
		answer: func(b []byte) (err error) {
			rows, err = parseRows(b)
			return err
		},
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

// HasResult says whether the server holds a result with exactly this model,
// engine and timestamp. It looks at the newest 1,000 results of that model and
// engine.
func (c *Client) HasResult(ctx context.Context, model, engine, timestamp string) (bool, error) {
	query := url.Values{"per_page": {"20"}}
	// An empty text would be no filter.
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
			answer: func(b []byte) (err error) {
				results, err = parseResults(b)
				return err
			},
		})
		if err != nil {
			return false, err
		}
		for _, r := range results.Items {
			if r.is(model, engine, timestamp) {
				return true, nil
			}
			if string(r.Timestamp) < timestamp {
				return false, nil // they are listed by timestamp, the newest first
			}
		}
		if len(results.Items) == 0 || page >= results.Pages {
			return false, nil
		}
	}
	return false, nil
}

// resultPage is a page of the list of results, of which only what tells them
// apart is read.
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

// Dispatched returns the commands that the server handed out to the named agent
// and heard nothing of since, oldest first. The server's times bear no zone;
// those of tests are taken for this machine's local time.
func (c *Client) Dispatched(ctx context.Context, agentName string) ([]reporter.DispatchedCommand, error) {
	var commands []reporter.DispatchedCommand
	for page := 1; page <= maxPages; page++ {
		rows, err := c.Tests(ctx, Filter{Agent: agentName, Status: "dispatched", Page: page, PerPage: 100})
		if err != nil {
			return nil, err
		}
		for _, row := range rows.Items {
			commands = append(commands, row.command())
		}
		if len(rows.Items) == 0 || page >= rows.Pages {
			break
		}
	}
	// The list is the newest first, but by text: two forms of time stand in it.
	slices.Reverse(commands)
	slices.SortStableFunc(commands, func(a, b reporter.DispatchedCommand) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return commands, nil
}

// FindTest returns the id of the test that the named agent's command with this id
// belongs to, among those that were handed out and have not ended; empty if there
// is none.
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

// command returns the command that a heartbeat's answer would have held for the
// test.
func (t TestRow) command() reporter.DispatchedCommand {
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
		text = []byte("{}") // texts and JSON always encode
	}
	created, _ := ParseTime(t.CreatedAt)
	return reporter.DispatchedCommand{
		Command:   heartbeat.Command{ID: t.CommandID, TestID: t.ID, Type: kind, Payload: text},
		CreatedAt: created,
	}
}

// runtimeConfig returns the settings of an engine, which the server keeps as
// text in the place of the profile.
func runtimeConfig(profile string) json.RawMessage {
	body := strict([]byte(profile))
	if !json.Valid(body) {
		return json.RawMessage("{}")
	}
	return body
}

// ParseTime reads a time of the server's, and reports whether it could. The
// server writes two forms, neither with a zone: its local time with a T, and
// UTC with a blank. Local time is taken for that of this machine.
func ParseTime(text string) (time.Time, bool) {
	if t, err := time.ParseInLocation("2006-01-02T15:04:05", text, time.Local); err == nil {
		return t, true
	}
	t, err := time.Parse(time.DateTime, text)
	return t, err == nil
}
