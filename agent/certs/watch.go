package certs

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

const (
	watchEvery = time.Hour
	sayEvery   = 24 * time.Hour
)

// Watch looks at the files now and then until ctx is done, and logs what Expiry
// says, once a day at most unless it changes its mind.
func Watch(ctx context.Context, files Files, log *slog.Logger) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var said string
	var when time.Time
	for {
		now := time.Now()
		sentences := Expiry(files, now)
		kind := kindOf(sentences)
		if len(sentences) > 0 && (kind != said || now.Sub(when) >= sayEvery) {
			for _, s := range sentences {
				log.WarnContext(ctx, "certificate needs attention", "what", s)
			}
			when = now
		}
		said = kind
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// kindOf returns what sentences say but for the days, which change daily.
func kindOf(sentences []string) string {
	var kinds []string
	for _, s := range sentences {
		before, _, _ := strings.Cut(s, ", in ")
		kinds = append(kinds, before)
	}
	return strings.Join(kinds, "\n")
}
