package kittapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
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

	// LastHeartbeat is when the server last heard of the agent, in the server's form;
	// see ParseTime. Empty for never.
	LastHeartbeat string
}

// LastHeartbeat returns when the server last heard of the agent with this id, or of the
// one with this name if the server knows no such id or id is empty. The error matches
// [heartbeat.ErrUnknownAgent] if it knows neither.
func (c *Client) LastHeartbeat(ctx context.Context, id, name string) (agent.Sighting, error) {
	row, err := c.agentByID(ctx, id, nil)
	if rejected, ok := errors.AsType[*reporter.RejectedError](err); ok && rejected.Code == http.StatusNotFound {
		row, err = c.FindAgent(ctx, name)
	}
	if err != nil {
		return agent.Sighting{}, err
	}
	return agent.Sighting{At: withoutZone(row.LastHeartbeat), Offline: row.Status == "offline" || row.Status == "provisioned"}, nil
}

// agentByID returns the server's record of an agent, and sets date, if it is not nil, to
// the server's time.
func (c *Client) agentByID(ctx context.Context, id string, date *time.Time) (row AgentRow, err error) {
	part, err := segment(id)
	if err != nil {
		return AgentRow{}, err
	}
	err = c.do(ctx, request{
		method: http.MethodGet, path: "/agents/" + part, date: date,
		answer: parsedInto(&row, parseAgent),
	})
	return row, err
}

func parseAgent(body []byte) (AgentRow, error) {
	var wire wireAgent
	if err := unmarshal(body, &wire); err != nil {
		return AgentRow{}, err
	}
	return wire.row()
}

// wireAgent is the server's record of an agent.
type wireAgent struct {
	ID            text `json:"id"`
	Name          text `json:"name"`
	Status        text `json:"status"`
	TokenPrefix   text `json:"token_prefix"`
	LastHeartbeat text `json:"last_heartbeat"`
}

func (w wireAgent) row() (AgentRow, error) {
	if w.ID == "" {
		return AgentRow{}, errShape("id")
	}
	return AgentRow{
		ID: string(w.ID), Name: string(w.Name), Status: string(w.Status), TokenPrefix: string(w.TokenPrefix),
		LastHeartbeat: string(w.LastHeartbeat),
	}, nil
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
	var wire []wireAgent
	if err := unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if wire == nil {
		return nil, errors.New("it is not a list of agents")
	}
	rows := make([]AgentRow, len(wire))
	for i, each := range wire {
		row, err := each.row()
		if err != nil {
			return nil, err
		}
		rows[i] = row
	}
	return rows, nil
}
