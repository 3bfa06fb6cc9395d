package kittapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// An AgentRow is the public part of the server's record of an agent.
type AgentRow struct {
	ID     string
	Name   string
	Status string // provisioned, online, offline, or the status of the last heartbeat

	// TokenPrefix is the first 8 characters of the agent's token. It is empty if
	// the agent has no token; any client can then use its name.
	TokenPrefix string
}

// FindAgent returns the server's record of the agent with that name, which it looks
// up in the list of all agents. The error matches [heartbeat.ErrUnknownAgent] if
// there is none.
func (c *Client) FindAgent(ctx context.Context, name string) (AgentRow, error) {
	var rows []AgentRow
	err := c.do(ctx, request{
		method: http.MethodGet, path: "/agents/", limit: maxList,
		answer: parsedInto(&rows, parseAgents),
	})
	if err != nil {
		return AgentRow{}, err
	}
	for _, row := range rows {
		if row.Name == name {
			return row, nil
		}
	}
	return AgentRow{}, fmt.Errorf("agent %q: %w", name, heartbeat.ErrUnknownAgent)
}

func parseAgents(body []byte) ([]AgentRow, error) {
	var wire []struct {
		ID          text `json:"id"`
		Name        text `json:"name"`
		Status      text `json:"status"`
		TokenPrefix text `json:"token_prefix"`
	}
	if err := unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire == nil {
		return nil, errors.New("it is not a list of agents")
	}
	rows := make([]AgentRow, len(wire))
	for i, row := range wire {
		if row.ID == "" {
			return nil, errShape("id")
		}
		rows[i] = AgentRow{ID: string(row.ID), Name: string(row.Name), Status: string(row.Status), TokenPrefix: string(row.TokenPrefix)}
	}
	return rows, nil
}
