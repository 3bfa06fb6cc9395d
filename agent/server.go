package agent

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A Server is where the agent registers and gets its work from. Package
// agent/kittapi has the one for a KITT server.
//
// The agent treats every error as an outage and retries, unless it matches
// [heartbeat.ErrUnknownAgent] or is a [*reporter.RejectedError]; it is one of these
// only if the server itself said so.
type Server interface {
	// Register makes the agent known and returns the id that the server gave it.
	Register(ctx context.Context, reg Registration) (Registered, error)

	// Heartbeat reports beat for the agent with the given id or name.
	Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error)
}

// A Registration introduces an agent to its server.
type Registration struct {
	Name         string
	Port         int // where the agent's own API listens
	Version      string
	Capabilities []string // engines with a local image
	Machine      *hwdetect.Machine
}

// Registered is the answer to a Registration.
type Registered struct {
	AgentID  string
	Interval time.Duration // between heartbeats; 0 if the server named none
}

// beatClient lets the heartbeat loop speak through the agent's Server.
type beatClient struct{ a *Agent }

func (c beatClient) Register(ctx context.Context) (string, time.Duration, error) {
	reg := Registration{
		Name:         c.a.cfg.Name,
		Port:         c.a.cfg.port(),
		Version:      c.a.cfg.Version,
		Machine:      c.a.host.Wait(ctx),
		Capabilities: c.a.imageEngines(ctx),
	}
	c.a.duplicates.sending()
	answer, err := c.a.cfg.Server.Register(ctx, reg)
	c.a.events.serverAnswered(err)
	if err == nil {
		c.a.host.WaitRead(ctx) // a heartbeat is next; mostly the readings are there by now
	}
	return answer.AgentID, answer.Interval, err
}

func (c beatClient) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error) {
	ctx, release := base.Outlast(ctx, stopGrace)
	defer release()
	c.a.duplicates.beforeBeat(ctx, beat.Busy)
	answer, err := c.a.cfg.Server.Heartbeat(ctx, id, beat)
	if ctx.Err() == nil {
		c.a.outbox.Saw(err)
	}
	c.a.events.serverAnswered(err)
	if err == nil {
		c.a.duplicates.afterBeat(ctx, id)
	}
	return answer, err
}

// stopGrace is how long a heartbeat that is on its way goes on when the agent stops. If
// its answer is lost, the next start cannot tell it from one of another agent.
const stopGrace = 2 * time.Second
