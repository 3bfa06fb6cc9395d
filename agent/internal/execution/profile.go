package execution

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	// profilePause is the time between attempts to get an engine profile from a server
	// that doesn't answer, and profileLimit what one may take.
	profilePause = 5 * time.Second
	profileLimit = time.Minute
)

// useProfile gets the engine profile that the test names from the server, and writes it
// where kitt reads it. It waits for a server that doesn't answer, since a benchmark
// without its profile would measure something else.
func (x *execution) useProfile(ctx context.Context) error {
	id, mode := string(x.job.Command.Spec.Profile), x.job.Command.Spec.Mode
	if id == "" {
		return nil
	}
	p, err := x.fetchProfile(ctx, id)
	if err != nil {
		return err
	}
	text, summary, err := p.Config(x.job.Command.Spec.Engine, x.cfg.ProfileKey)
	if err != nil {
		return err
	}
	x.jobLog.Note(summary)
	if p.Builds() {
		x.jobLog.Note("The profile's build_config has no effect on a test")
	}
	switch own := p.ModeOf(); {
	case mode == "":
		mode = own
	case own != "" && own != mode:
		x.jobLog.Note(fmt.Sprintf("The profile is for engine_mode %s; the test's own engine_mode %s counts", own, mode))
	}
	path := filepath.Join(x.job.ResultsDir(), profile.File)
	err = x.waitOut(ctx, "write the engine profile", func() error { return base.WriteFile(path, text) })
	if err != nil {
		return err
	}
	return x.job.Update(func(rec *jobs.Record) { rec.Config, rec.Mode, rec.EnginePort = profile.File, mode, p.Port() })
}

// fetchProfile gets a profile from the server.
func (x *execution) fetchProfile(ctx context.Context, id string) (profile.Profile, error) {
	if x.cfg.Profiles == nil {
		return profile.Profile{}, fault.New(profile.Class, "start the test without a profile", "the test names the engine profile %s, and this agent's server has none", id)
	}
	defer x.unblock()
	for {
		p, err := x.askForProfile(ctx, id)
		_, rejected := errors.AsType[*reporter.RejectedError](err)
		switch {
		case err == nil:
			return p, nil
		case errors.Is(err, profile.ErrNotFound):
			return p, fault.New(profile.Class, "choose another one", "the engine profile %s is not on the server any more", id)
		case rejected:
			return p, fmt.Errorf("the engine profile %s: %w", id, err)
		case ctx.Err() != nil:
			return p, context.Cause(ctx)
		}
		x.block(fmt.Errorf("the engine profile %s is not available from the server: %w", id, err))
		if err := base.Wait(ctx, profilePause); err != nil {
			return p, err
		}
	}
}

func (x *execution) askForProfile(ctx context.Context, id string) (p profile.Profile, err error) {
	defer x.catch(ctx, "server", &err)
	ctx, cancel := context.WithTimeout(ctx, profileLimit)
	defer cancel()
	return x.cfg.Profiles.EngineProfile(ctx, id)
}
