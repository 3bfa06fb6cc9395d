package main

import (
	"context"
	"fmt"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/internal/base"
)

// barLineEvery is how often progress is told where there is no terminal.
const barLineEvery = 5 * time.Second

// A bar shows on standard error how far a download is: as a bar on a terminal,
// now and then in a line elsewhere.
type bar struct {
	env  *environment
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	said time.Time
}

func (env *environment) newBar(ctx context.Context) *bar {
	b := &bar{env: env, said: time.Now()}
	if logging.IsTerminal(env.stderr) {
		b.bars = mpb.NewWithContext(ctx, mpb.WithOutput(env.stderr), mpb.WithWidth(48))
	}
	return b
}

// set shows how many bytes there are, of how many: -1 if that is not known.
func (b *bar) set(done, total int64) {
	if b.bars == nil {
		if time.Since(b.said) >= barLineEvery {
			b.said = time.Now()
			b.env.say("%s of %s", base.Size(done), ofTotal(total))
		}
		return
	}
	if b.bar == nil {
		b.bar = b.bars.AddBar(max(total, 0), mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(decor.SizeB1024(0), "  % .1f")))
	}
	if total > 0 {
		b.bar.SetTotal(total, false)
	}
	b.bar.SetCurrent(done)
}

// end takes the bar from the screen where the download failed.
func (b *bar) end(err error) {
	if b.bars == nil {
		return
	}
	if b.bar != nil {
		if err == nil {
			b.bar.SetTotal(-1, true)
		} else {
			b.bar.Abort(true)
		}
	}
	b.bars.Wait()
}

func ofTotal(total int64) string {
	if total < 0 {
		return "an unknown size"
	}
	return fmt.Sprint(base.Size(total))
}
