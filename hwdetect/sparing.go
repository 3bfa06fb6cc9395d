package hwdetect

import (
	"context"
	"sync"
	"time"
)

const (
	// smiPause is the least time between two runs of nvidia-smi for telemetry, less
	// than the usual time between two heartbeats.
	smiPause = 25 * time.Second

	// maxSMIPause is the most that a slow nvidia-smi makes of it.
	maxSMIPause = 2 * time.Minute

	// smiShare is how much longer the pause is than the run before it took.
	smiShare = 200
)

// sparing is a TelemetryReader that asks another one, which is costly, seldom. In
// between it returns the answer that it got last.
type sparing struct {
	TelemetryReader

	mu    sync.Mutex // guards the fields below
	last  Telemetry
	err   error
	again time.Time // when it may be asked again
}

// Telemetry returns the last reading, after a new one if it is time for that. One caller
// at a time waits for the new one.
func (s *sparing) Telemetry(ctx context.Context) (Telemetry, error) {
	s.mu.Lock()
	if begun := time.Now(); !begun.Before(s.again) {
		s.again = begun.Add(maxSMIPause) // others get the last one
		s.mu.Unlock()
		last, err := s.TelemetryReader.Telemetry(ctx)
		ended := time.Now()
		s.mu.Lock()
		s.last, s.err = last, err
		s.again = ended.Add(min(max(smiPause, smiShare*ended.Sub(begun)), maxSMIPause))
	}
	defer s.mu.Unlock()
	return s.last, s.err
}
