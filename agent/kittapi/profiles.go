package kittapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

var _ profile.Finder = (*Client)(nil)

// EngineProfile returns an engine profile of the server.
func (c *Client) EngineProfile(ctx context.Context, id string) (profile.Profile, error) {
	part, err := segment(id)
	if err != nil {
		return profile.Profile{}, fmt.Errorf("%w: %w", profile.ErrNotFound, err)
	}
	var p profile.Profile
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/engines/profiles/" + part,
		answer: parsedInto(&p, parseProfile),
	})
	if e, ok := errors.AsType[*reporter.RejectedError](err); ok && e.Code == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", profile.ErrNotFound, err)
	}
	return p, err
}

func parseProfile(body []byte) (profile.Profile, error) {
	// Fields that a later server adds may have any type.
	var row struct {
		ID      text            `json:"id"`
		Name    text            `json:"name"`
		Engine  text            `json:"engine"`
		Mode    text            `json:"mode"`
		Build   json.RawMessage `json:"build_config"`
		Runtime json.RawMessage `json:"runtime_config"`
	}
	if err := unmarshal(body, &row); err != nil {
		return profile.Profile{}, err
	}
	if row.ID == "" || row.Engine == "" {
		return profile.Profile{}, errShape("engine")
	}
	return profile.Profile{
		ID: string(row.ID), Name: string(row.Name), Engine: string(row.Engine), Mode: string(row.Mode), Build: row.Build, Runtime: row.Runtime,
	}, nil
}
