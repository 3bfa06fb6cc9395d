package kittapi

import (
	"context"
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

// Version is what a server says about itself.
type Version struct {
	Version    string `json:"version"` // such as 1.7.0
	APIVersion string `json:"api_version"`
	Name       string `json:"name"`
}

// Version asks the server for its version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.do(ctx, request{method: http.MethodGet, path: "/version", answer: func(b []byte) error {
		if err := unmarshal(b, &v); err != nil {
			return err
		}
		if v.Version == "" {
			return errShape("version")
		}
		return nil
	}})
	return v, err
}

// A QuickTest is the server's record of a test.
type QuickTest struct {
	ID          string `json:"id"`
	CommandID   string `json:"command_id"`
	AgentID     string `json:"agent_id"`
	AgentName   string `json:"agent_name,omitempty"` // only in lists
	Model       string `json:"model_path"`
	Engine      string `json:"engine_name"`
	Benchmark   string `json:"benchmark_name"`
	Suite       string `json:"suite_name"`
	Mode        string `json:"engine_mode"`
	Profile     string `json:"profile_id"`
	Status      string `json:"status"` // queued, dispatched, running, completed or failed
	Error       string `json:"error"`
	CreatedAt   string `json:"created_at"` // as the server wrote it, without a zone
	StartedAt   string `json:"started_at"`
	CompletedAt string `json:"completed_at"`
}

// UnmarshalJSON reads a record. Where a number stands in place of a text it is
// taken as text, and null as none.
func (t *QuickTest) UnmarshalJSON(b []byte) error {
	var row map[string]text
	if err := unmarshal(b, &row); err != nil {
		return err
	}
	*t = QuickTest{
		ID: string(row["id"]), CommandID: string(row["command_id"]),
		AgentID: string(row["agent_id"]), AgentName: string(row["agent_name"]),
		Model: string(row["model_path"]), Engine: string(row["engine_name"]),
		Benchmark: string(row["benchmark_name"]), Suite: string(row["suite_name"]),
		Mode: string(row["engine_mode"]), Profile: string(row["profile_id"]),
		Status: string(row["status"]), Error: string(row["error"]),
		CreatedAt: string(row["created_at"]), StartedAt: string(row["started_at"]), CompletedAt: string(row["completed_at"]),
	}
	if t.ID == "" || t.Status == "" {
		return errors.New("it is no test")
	}
	return nil
}

// QuickTest returns the server's record of one test.
func (c *Client) QuickTest(ctx context.Context, testID string) (QuickTest, error) {
	part, err := segment(testID)
	if err != nil {
		return QuickTest{}, err
	}
	var row QuickTest
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/quicktest/" + part,
		answer: func(b []byte) error { return unmarshal(b, &row) },
	})
	return row, err
}

// A TestFilter says which tests a list holds. Empty fields leave nothing out.
type TestFilter struct {
	Agent   string // name of the agent
	Status  string
	Page    int // from 1; 0 means 1
	PerPage int // 1 to 100; 0 leaves it to the server (20)
}

// A TestPage is one page of a list of tests, the newest first.
type TestPage struct {
	Items []QuickTest `json:"items"`
	Total int         `json:"total"`
	Page  int         `json:"page"`
	Pages int         `json:"pages"`
}

// Tests lists the server's tests.
func (c *Client) Tests(ctx context.Context, filter TestFilter) (TestPage, error) {
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
