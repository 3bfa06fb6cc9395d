package kittapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Health returns nil if the server reports that it is healthy.
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

// Version returns the server's version, such as 1.7.0.
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
	CreatedAt     string `json:"created_at"` // in the server's form; see ParseTime
	StartedAt     string `json:"started_at"`
	CompletedAt   string `json:"completed_at"`
}

// UnmarshalJSON parses a record. A number in place of a string becomes a string, and
// null an empty one. It returns an error if there is no id or status.
func (t *TestRow) UnmarshalJSON(b []byte) error {
	// Fields that a later server adds may have any type.
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
		return errors.New("it is not a test")
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

// TestByID returns the server's full record of a test.
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

// A Filter selects the tests of a list. Empty fields select all.
type Filter struct {
	Agent   string // name of the agent
	Status  string // see TestRow.Status
	Page    int    // from 1; 0 means 1
	PerPage int    // 1 to 100; 0 means the server's default (20)
}

// A TestPage is one page of a list of tests, the newest first.
type TestPage struct {
	Items []TestRow `json:"items"`
	Total int       `json:"total"`
	Page  int       `json:"page"`
	Pages int       `json:"pages"`
}

// Tests returns one page of the server's tests.
func (c *Client) Tests(ctx context.Context, filter Filter) (TestPage, error) {
	return c.tests(ctx, filter, nil)
}

// tests is Tests, and sets date, if it is not nil, to the server's time.
func (c *Client) tests(ctx context.Context, filter Filter, date *time.Time) (TestPage, error) {
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
		method: http.MethodGet, path: "/quicktest/", query: query, limit: maxList, date: date,
		answer: parsedInto(&page, parseTests),
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

// A Launch describes a quick test to queue. AgentID, Model and Engine are required;
// the server has defaults for the other fields.
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
