package simulated

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

// A player prints a script, with the scenario's additions.
type player struct {
	cfg *Config
	job runner.Job
	out io.Writer
	rng *rand.Rand
}

// signals are the names of the signals that a shell's exit status stands for.
var signals = map[int]string{130: "SIGINT", 134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}

// play prints s up to its end or to where the scenario ends it.
func (p *player) play(ctx context.Context, s *script) error {
	sc := p.cfg.Scenario
	crash, hang, oom, fail := s.find(sc.Crash), s.find(sc.Hang), s.find(sc.OOM), s.find(sc.FailAt)
	if sc.Exit > 0 && fail < 0 {
		fail = len(s.lines)
	}
	extra := len(s.lines) / 2
	for i := 0; ; i++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i == crash {
			if err := p.cfg.Crash(p.job); err != nil {
				return err
			}
		}
		if i == hang {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if i == oom {
			return killedForMemory("")
		}
		if i == fail {
			return p.fail(ctx)
		}
		if i == extra {
			if err := p.extras(ctx); err != nil {
				return err
			}
		}
		if i == len(s.lines) {
			break
		}
		l := s.lines[i]
		if l.bar && sc.Progress {
			if err := p.bar(ctx, l.step); err != nil {
				return err
			}
		}
		if !l.same {
			if err := p.pause(ctx, 1); err != nil {
				return err
			}
		}
		if err := p.print(l.text + "\n"); err != nil {
			return err
		}
		if l.done > 0 {
			s.report.Results[l.done-1].Timestamp = stamp(p.cfg.Now())
		}
	}
	if s.fatal != nil {
		return s.fatal
	}
	return nil
}

// fail ends the run with the status that the scenario wants.
func (p *player) fail(ctx context.Context) error {
	exit := &runner.ExitError{Code: max(1, p.cfg.Scenario.Exit)}
	if exit.Signal = signals[exit.Code]; exit.Signal != "" {
		return exit
	}
	exit.Detail = "the scenario wanted it"
	if err := p.pause(ctx, 1); err != nil {
		return err
	}
	if err := p.print(fmt.Sprintf("Error: simulated failure, exit status %d\n", exit.Code)); err != nil {
		return err
	}
	return exit
}

// extras prints what the scenario adds in mid-run.
func (p *player) extras(ctx context.Context) error {
	sc := p.cfg.Scenario
	if sc.InvalidUTF8 {
		if err := p.print("  tokenizer: unexpected bytes \xff\xfe\xc3( in the vocabulary\n"); err != nil {
			return err
		}
	}
	if sc.LongLine > 0 {
		if err := p.longLine(ctx, sc.LongLine); err != nil {
			return err
		}
	}
	var chunk strings.Builder
	for i := 1; i <= sc.Flood; i++ {
		fmt.Fprintf(&chunk, "%-99s\n", fmt.Sprintf("flood line %d of %d", i, sc.Flood))
		if chunk.Len() > chunkBytes || i == sc.Flood {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := p.print(chunk.String()); err != nil {
				return err
			}
			chunk.Reset()
		}
	}
	return nil
}

// chunkBytes is near what a pipe hands over at once.
const chunkBytes = 32 << 10

// longLine prints one line of n bytes, its newline not counted.
func (p *player) longLine(ctx context.Context, n int) error {
	chunk := strings.Repeat("0123456789", min(n, chunkBytes)/10+1)[:min(n, chunkBytes)]
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := chunk[:min(n, len(chunk))]
		if err := p.print(part); err != nil {
			return err
		}
		n -= len(part)
	}
	return p.print("\n")
}

// barSteps is how often a progress bar is drawn, with a tenth of a line's
// delay before each.
const barSteps = 20

// bar draws the progress of a benchmark as tqdm does: each drawing begins with
// a carriage return, and only the last one ends with a newline.
func (p *player) bar(ctx context.Context, name string) error {
	started := p.cfg.Now()
	for i := range barSteps + 1 {
		if err := p.pause(ctx, 0.1); err != nil {
			return err
		}
		took := max(p.cfg.Now().Sub(started), 0)
		text := fmt.Sprintf("\r%s: %3d%%|%-*s| %d/%d [%s]", name, 100*i/barSteps,
			barSteps, strings.Repeat("█", i), i, barSteps, clockText(took))
		if i == barSteps {
			text += "\n"
		}
		if err := p.print(text); err != nil {
			return err
		}
	}
	return nil
}

// clockText returns d as minutes and seconds.
func clockText(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// pause waits as long as there is between two lines, times part. What it draws
// doesn't depend on the speed.
func (p *player) pause(ctx context.Context, part float64) error {
	seconds := (0.5 + p.rng.Float64()) * part * p.cfg.Speed
	if slow := p.cfg.Scenario.Slow; slow != 0 {
		seconds *= slow
	}
	if d := time.Duration(seconds * float64(time.Second)); d > 0 {
		if err := p.cfg.Sleep(ctx, d); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// print writes text of the benchmark's.
func (p *player) print(text string) error {
	if _, err := io.WriteString(p.out, text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
