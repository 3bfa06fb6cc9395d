package docker

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// This file goes with old.go.

// sayAwayAtTheEnd says that lines may be missing if the engine was away when the
// container ended: under live-restore what it printed last is then in a pipe that
// nobody reads any more.
func (l *engineLog) sayAwayAtTheEnd(s *container.State) {
	f, at := l.f, moment(s.FinishedAt)
	if f.awayFrom.IsZero() || at.Before(f.awayFrom.Add(-retryPause)) || at.After(f.awayTo.Add(awayMargin)) {
		return
	}
	f.say("lines may be missing here: the Docker engine was away from %s to %s, when the benchmark ended",
		f.awayFrom.UTC().Format(time.RFC3339), f.awayTo.UTC().Format(time.RFC3339))
}

// awayMargin is how long after its return an engine may take to note down an end that
// it missed.
const awayMargin = 10 * time.Second
