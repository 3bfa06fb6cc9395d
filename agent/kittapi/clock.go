package kittapi

import (
	"context"
	"time"
)

// A serverClock turns the server's times into this machine's. Those of the server's code
// are in its own zone, which they don't name, and its clock may be wrong.
type serverClock struct {
	ahead time.Duration  // of the server's clock before this machine's
	zone  *time.Location // of the server
}

// serverClock compares the server's clock with this machine's. date is the server's time
// now, zero if it is not known. The zone shows in the record of an agent that has sent a
// heartbeat within the last minutes.
func (c *Client) serverClock(ctx context.Context, agentID string, date time.Time) serverClock {
	if date.IsZero() {
		return serverClock{zone: time.Local}
	}
	clock := serverClock{ahead: time.Until(date), zone: time.Local}
	var then time.Time
	row, err := c.agentByID(ctx, agentID, &then)
	heard := withoutZone(row.LastHeartbeat)
	if err != nil || heard.IsZero() || then.IsZero() {
		return clock
	}
	// Zones differ by quarters of an hour.
	const quarter = 15 * time.Minute
	offset := heard.Sub(then).Round(quarter)
	if offset.Abs() <= maxZone {
		clock.zone = time.FixedZone("server", int(offset/time.Second))
	}
	return clock
}

// maxZone is the farthest that a zone is from UTC.
const maxZone = 14 * time.Hour

// parse returns a time of the server by this machine's clock; zero if it is none.
func (c serverClock) parse(text string) time.Time {
	if t, err := time.ParseInLocation(localForm, text, c.zone); err == nil {
		return t.Add(-c.ahead)
	}
	if t, err := time.Parse(time.DateTime, text); err == nil {
		return t.Add(-c.ahead)
	}
	return time.Time{}
}

// localForm is the form of the server's local times. More digits may follow.
const localForm = "2006-01-02T15:04:05"

// withoutZone parses a time of the server as if it were in UTC; zero if it is none.
func withoutZone(text string) time.Time {
	for _, form := range []string{localForm, time.DateTime} {
		if t, err := time.Parse(form, text); err == nil {
			return t
		}
	}
	return time.Time{}
}
