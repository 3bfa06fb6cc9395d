// Package integritytest helps to test users and implementations of package
// integrity. It has a [Fake] with settable answers and the contracts of a Source and
// of a Judge as code, [TestSource] and [TestJudge].
package integritytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// A Fake is an [integrity.Source] with settable answers. Its zero value is a machine
// of which nothing can be read but the time. Its methods are safe for concurrent
// use.
type Fake struct {
	mu        sync.Mutex // guards the fields below
	state     integrity.State
	stateErr  error
	sample    integrity.Sample
	sampleErr error
	hang      bool
	states    int
	samples   int
}

var _ integrity.Source = (*Fake)(nil)

// SetState sets what later calls of State return. If s.Time is zero they set it to
// the current time.
func (f *Fake) SetState(s integrity.State, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.stateErr = s, err
}

// SetSample sets what later calls of Sample return. If s.Time is zero they set it to
// the current time.
func (f *Fake) SetSample(s integrity.Sample, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sample, f.sampleErr = s, err
}

// SetHang makes later calls wait until their context is done, as with a GPU that
// does not answer.
func (f *Fake) SetHang(hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = hang
}

// Calls returns the number of calls of State and of Sample.
func (f *Fake) Calls() (state, sample int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.states, f.samples
}

// State returns the state or error that was set.
func (f *Fake) State(ctx context.Context) (integrity.State, error) {
	f.mu.Lock()
	f.states++
	s, err := f.state, f.stateErr
	f.mu.Unlock()
	if err := f.wait(ctx); err != nil {
		return integrity.State{}, err
	}
	if s.Time.IsZero() {
		s.Time = time.Now().Round(0)
	}
	return s, err
}

// Sample returns the sample or error that was set.
func (f *Fake) Sample(ctx context.Context) (integrity.Sample, error) {
	f.mu.Lock()
	f.samples++
	s, err := f.sample, f.sampleErr
	f.mu.Unlock()
	if s.Time.IsZero() {
		s.Time = time.Now().Round(0)
	}
	if waited := f.wait(ctx); waited != nil {
		return integrity.Sample{Time: s.Time}, waited
	}
	return s, err
}

// wait waits for the end of ctx if the fake hangs.
func (f *Fake) wait(ctx context.Context) error {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// TestSource checks that s satisfies the contract of [integrity.Source] on a machine
// that can be read. It returns every violation it finds, joined.
func TestSource(ctx context.Context, s integrity.Source) error {
	var violations []error
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	now := func(what string, t time.Time) {
		if age := time.Since(t); age > time.Minute || age < -time.Minute {
			violation("the time of %s is %s", what, t)
		}
	}
	first, err := s.State(ctx)
	if err != nil {
		return fmt.Errorf("State: %w", err)
	}
	now("a state", first.Time)
	for _, g := range first.Gaps {
		if g.What == "" || g.Reason == "" {
			violation("a gap has no name or no reason: %+v", g)
		}
	}
	again, err := s.State(ctx)
	switch {
	case err != nil:
		violation("State again: %w", err)
	case again.BootID != first.BootID:
		violation("the boot was %q, and then %q", first.BootID, again.BootID)
	case again.Time.Before(first.Time):
		violation("the second state is older than the first")
	}
	for range 3 {
		start := time.Now()
		sample, err := s.Sample(ctx)
		if took := time.Since(start); took > time.Second {
			violation("Sample returned only after %s", took)
		}
		if err != nil && len(sample.GPUs) > 0 {
			violation("Sample returned readings of GPUs and the error %w", err)
		}
		now("a sample", sample.Time)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.State(done); !errors.Is(err, context.Canceled) {
		violation("State with a context that is done returned the error %v", err)
	}
	return errors.Join(violations...)
}
