package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// versionPause is the time between two looks at a run that only a newer agent
// can follow.
const versionPause = time.Second

// leaveAlone waits while a run lives whose files a newer agent has written, as
// after an update that was rolled back. That its version is not understood is no
// reason to end it, and how it ended can't be known. It is ended when ctx is,
// unless ctx says to detach.
func (f *follower) leaveAlone(ctx context.Context, reason error) (runner.Result, error) {
	for said := false; ; said = true {
		held, err := f.dir.Held()
		if err != nil {
			return runner.Result{}, err
		}
		if !held {
			return runner.Result{}, lost(fmt.Sprintf("its files can't be read: %v", reason), nil)
		}
		if !said {
			f.output.Say("this benchmark was begun by a newer version of the agent, which can follow it; it goes on meanwhile")
		}
		if base.Wait(ctx, versionPause) == nil {
			continue
		}
		cause := context.Cause(ctx)
		if errors.Is(cause, runner.ErrDetach) {
			return f.begun(), cause
		}
		if err := f.stop(); err != nil {
			return f.begun(), fmt.Errorf("%w; %w", cause, err)
		}
		return f.begun(), cause
	}
}
