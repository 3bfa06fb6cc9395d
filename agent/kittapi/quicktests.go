package kittapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// Health asks the server whether it is well. An error means that it could not
// be asked.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodGet, path: "/health", answer: func(b []byte) error {
		var answer struct {
			Status text `json:"status"`
		}
		if err := unmarshal(b, &answer); err != nil {
			return err
		}
		if answer.Status != "ok" {
			return errShape(`status "ok"`)
		}
		return nil
	}})
}

// Version asks the server for its version, such as 1.7.0.
func (c *Client) Version(ctx context.Context) (string, error) {
	var answer struct {
		Version text `json:"version"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/version", answer: func(b []byte) error {
		if err := unmarshal(b, &answer); err != nil {
			return err
		}
		if answer.Version == "" {
			return errShape("version")
		}
		return nil
	}})
	return string(answer.Version), err
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
	Status        string `json:"status"` // queued, dispatched, running, completed or failed
	Error         string `json:"error"`
	CreatedAt     string `json:"created_at"` // as the server wrote it; see ParseTime
	StartedAt     string `json:"started_at"`
	CompletedAt   string `json:"completed_at"`
}

// UnmarshalJSON reads a record. Where a number stands in place of a text it is
// taken as text, and null as none.
func (t *TestRow) UnmarshalJSON(b []byte) error {
	// result_id is always null, and whatever else a later server adds may be
	// of any type.
	var row struct {
		ID            text `json:"id"`
		AgentID       text `json:"agent_id"`
		AgentName     text `json:"agent_name"`
		CommandID     text `json:"command_id"`
		ModelPath     text `json:"model_path"`
		EngineName    text `json:"engine_name"`
		BenchmarkName text `json:"benchmark_name"`
		SuiteName     text `json:"suite_name"`
		EngineMode    text `json:"engine_mode"`
		ProfileID     text `json:"profile_id"`
		Status        text `json:"status"`
		Error         text `json:"error"`
		CreatedAt     text `json:"created_at"`
		StartedAt     text `json:"started_at"`
		CompletedAt   text `json:"completed_at"`
	}
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	if row.ID == "" || row.Status == "" {
		return errors.New("it is no test")
	}
	*t = TestRow{
		ID: string(row.ID), AgentID: string(row.AgentID), AgentName: string(row.AgentName), CommandID: string(row.CommandID),
		ModelPath: string(row.ModelPath), EngineName: string(row.EngineName), BenchmarkName: string(row.BenchmarkName),
		SuiteName: string(row.SuiteName), EngineMode: string(row.EngineMode), ProfileID: string(row.ProfileID),
		Status: string(row.Status), Error: string(row.Error),
		CreatedAt: string(row.CreatedAt), StartedAt: string(row.StartedAt), CompletedAt: string(row.CompletedAt),
	}
	return nil
}

// TestByID returns all that the server tells of one test, of which Test has what
// an agent asks for.
func (c *Client) TestByID(ctx context.Context, testID string) (TestRow, error) {
	part, err := segment(testID)
	if err != nil {
		return TestRow{}, err
	}
	var row TestRow
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/quicktest/" + part,
		answer: func(b []byte) error { return unmarshal(b, &row) },
	})
	return row, err
}

// A Filter says which tests a list holds. Empty fields leave nothing out.
type Filter struct {
	Agent   string // name of the agent
	Status  string
	Page    int // from 1; 0 means 1
	PerPage int // 1 to 100; 0 leaves it to the server (20)
}

// A TestPage is one page of a list of tests, the newest first.
type TestPage struct {
	Items []TestRow `json:"items"`
	Total int       `json:"total"`
	Page  int       `json:"page"`
	Pages int       `json:"pages"`
}

// Tests lists the server's tests.
func (c *Client) Tests(ctx context.Context, filter Filter) (TestPage, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" && value != "0" {
			query.Set(name, value)
		}
	}
	set("agent_name", filter.Agent)
	set("status", filter.Status)
	set("page", strconv.Itoa(filter.Page))
	set("per_page", strconv.Itoa(filter.PerPage))
	var page TestPage
	err := c.do(ctx, request{
		method: http.MethodGet, path: "/quicktest/", query: query, limit: maxList,
		answer: func(b []byte) (err error) {
			page, err = parseTests(b)
			return err
		},
	})
	return page, err
}

func parseTests(body []byte) (TestPage, error) {
	var page TestPage
	if err := unmarshal(body, &page); err != nil {
		return TestPage{}, err
	}
	if page.Items == nil {
		return TestPage{}, errShape("items")
	}
	return page, nil
}

// A Launch is a quick test to be queued. AgentID, Model and Engine are required;
// the server has defaults for the rest.
type Launch struct {
	AgentID   string `json:"agent_id"`
	Model     string `json:"model_path"`
	Engine    string `json:"engine_name"`
	Benchmark string `json:"benchmark_name,omitempty"`
	Suite     string `json:"suite_name,omitempty"`
	Mode      string `json:"engine_mode,omitempty"`
	Profile   string `json:"profile_id,omitempty"`
	Force     bool   `json:"force,omitempty"` // don't check whether the engine can read the model
}

// Launch queues a quick test and returns the id of its record.
func (c *Client) Launch(ctx context.Context, l Launch) (testID string, err error) {
	err = c.do(ctx, request{
		method: http.MethodPost, path: "/quicktest/", key: serverKey, body: l,
		answer: func(b []byte) error {
			var answer struct {
				ID text `json:"id"`
			}
			if err := unmarshal(b, &answer); err != nil {
				return err
			}
			if answer.ID == "" {
				return errShape("id")
			}
			testID = string(answer.ID)
			return nil
		},
	})
	return testID, err
}
