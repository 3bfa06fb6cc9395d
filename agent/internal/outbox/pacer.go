package outbox

import (
	"slices"
	"time"
)

// How lines are sent. The server shows each request as one line, so one line per
// request is the only form that reads well. Lines are joined only if there are more
// than single requests could catch up with soon.
const (
	catchUp = 3 * time.Second // what single requests may take for all lines that wait,
	hurryUp = time.Second     // and while the agent stops

	// minPost is what a request counts for at least. The KITT server takes 2.6 ms, and
	// a server that answers faster is not to be flooded either.
	minPost = 2500 * time.Microsecond

	joinFor  = 500 * time.Millisecond // once lines are joined, so are those that follow within this time,
	joinPace = 50 * time.Millisecond  // in requests at least so far apart, unless they are full
)

// A pacer decides whether the lines of one job are joined.
type pacer struct {
	took      []time.Duration // of the latest requests with one line, at most five
	busyUntil time.Time       // when requests so far would be done if each took as long as it counts for
	sent      time.Time       // when the latest request was made
	joinUntil time.Time       // lines are joined up to then
}

// join reports whether lines are joined now, while so many wait. hurry says that the
// agent stops: then the latest request counts, too.
func (p *pacer) join(waiting int64, now time.Time, hurry bool) bool {
	limit, post := catchUp-max(p.busyUntil.Sub(now), 0), p.post()
	if hurry && len(p.took) > 0 {
		limit, post = hurryUp, max(post, p.took[len(p.took)-1])
	}
	if waiting > int64(limit/post) {
		p.joinUntil = now.Add(joinFor)
	}
	return now.Before(p.joinUntil)
}

// sending counts a request with so many lines that is made now. Joined lines that come
// faster than single requests could carry them are joined for longer.
func (p *pacer) sending(lines int, now time.Time) {
	switch {
	case lines == 1:
		p.busyUntil = laterOf(p.busyUntil, now).Add(p.post())
	case time.Duration(lines)*p.post() > now.Sub(p.sent):
		p.joinUntil = now.Add(joinFor)
	}
	p.sent = now
}

// answered counts a request with one line that was accepted after d.
func (p *pacer) answered(d time.Duration) {
	if len(p.took) == 5 {
		p.took = p.took[1:]
	}
	p.took = append(p.took, d)
}

// post returns how long a request with one line takes: the median of the latest, so
// that one that was held up doesn't count.
func (p *pacer) post() time.Duration {
	if len(p.took) == 0 {
		return minPost
	}
	sorted := slices.Sorted(slices.Values(p.took))
	return max(sorted[(len(sorted)-1)/2], minPost)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
