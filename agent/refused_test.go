package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// blocking is a server behind something that refuses single requests. A nil function
// refuses nothing.
type blocking struct {
	*agenttest.Server
	log    func(text string) error
	result func(reporter.Result) error
	status func(status reporter.Status, reason string) error
}

func (b *blocking) ReportLog(ctx context.Context, id, text string) error {
	if b.log != nil {
		if err := b.log(text); err != nil {
			return err
		}
	}
	return b.Server.ReportLog(ctx, id, text)
}

func (b *blocking) ReportResult(ctx context.Context, id string, r reporter.Result) error {
	if b.result != nil {
		if err := b.result(r); err != nil {
			return err
		}
	}
	return b.Server.ReportResult(ctx, id, r)
}

func (b *blocking) ReportStatus(ctx context.Context, id string, status reporter.Status, reason string) error {
	if b.status != nil {
		if err := b.status(status, reason); err != nil {
			return err
		}
	}
	return b.Server.ReportStatus(ctx, id, status, reason)
}

// page is the answer of a proxy or firewall in the server's place.
func page(code int) error {
	return &reporter.BlockedError{Code: code, Err: fmt.Errorf("%d (text/html)", code)}
}

// refusals are the answers to a request that is refused alone, with how long a line
// takes at most that gets one of them.
var refusals = map[string]struct {
	err  error
	most time.Duration
}{
	"a firewall's page":      {page(403), 2 * time.Minute},
	"a page with status 200": {page(200), 2 * time.Minute},
	"too large":              {page(413), 2 * time.Minute},
	"the server fails":       {fmt.Errorf("500: %w", reporter.ErrServerFailed), 6 * time.Minute},
	"bad gateway":            {errors.New("502 Bad Gateway"), 6 * time.Minute},
	"reset":                  {errors.New("connection reset by peer"), 6 * time.Minute},
	"the server's own 400":   {&reporter.RejectedError{Code: 400, Message: "'line' is required"}, time.Minute},
	"a gateway's own JSON":   {&reporter.RejectedError{Code: 403, Message: "blocked"}, time.Minute},
}

// TestALineThatAloneIsRefused has one line of a benchmark refused: the server gets a
// note in its place, everything else, and the end.
func TestALineThatAloneIsRefused(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &blocking{Server: &agenttest.Server{}, log: func(text string) error {
					if strings.Contains(text, "line 7\n") || strings.HasSuffix(text, "line 7") {
						return refusal.err
					}
					return nil
				}}
				a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(20, time.Second)}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, refusal.most), id, "completed"))

				lines := srv.Lines(id)
				require.Equal(t, append(numbered(7), numbered(20)[8:]...), benchmarkLines(lines))
				require.Equal(t, 1, strings.Count(strings.Join(lines, "\n"), "A line of 6 bytes was refused"), lines)
				require.Len(t, srv.Results(), 1)
				require.NotEmpty(t, srv.Results()[0].Data)
				synctest.Wait()
				require.Zero(t, a.Status().Undelivered)
				require.Contains(t, a.Status().Recent[0].Refused, "1 line of the log")
				require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "1 line of the log")
			})
		})
	}
}

// TestOneLineOfAFloodIsRefused refuses two lines of many that are joined.
func TestOneLineOfAFloodIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &blocking{Server: &agenttest.Server{}, log: func(text string) error {
			if strings.Contains(text, "line 7000 ") || strings.Contains(text, "line 7100 ") {
				return page(403)
			}
			return nil
		}}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: flood(10_000, 10)}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, 5*time.Minute), id))
		got := benchmarkLines(srv.Lines(id))
		require.Len(t, got, 9998)
		require.Equal(t, 2, strings.Count(strings.Join(srv.Lines(id), "\n"), "was refused"))
		require.Contains(t, a.Jobs()[0].Refused, "2 lines of the log")
	})
}

// TestAResultThatAloneIsRefused refuses a result for its size: it is sent without its
// data, which stays on this machine, and the test ends.
func TestAResultThatAloneIsRefused(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		if name == "a gateway's own JSON" {
			continue // see TestAResultIsWaitedFor
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &blocking{Server: &agenttest.Server{}, result: func(r reporter.Result) error {
					if len(r.Data) > 0 {
						return refusal.err
					}
					return nil
				}}
				cfg := agent.Config{
					Server: srv, Runner: &play{run: prints(1, 0)}, Dir: t.TempDir(),
					Keep: agent.Retention{MaxAge: time.Hour},
				}
				_, stop := start(t, cfg)
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, refusal.most), id, "completed"))
				require.Len(t, srv.Results(), 1)
				require.Empty(t, srv.Results()[0].Data)
				<-time.After(48 * time.Hour)
				stop()

				a, stop := start(t, cfg)
				defer stop()
				<-time.After(time.Hour)
				require.Len(t, srv.Results(), 1)
				require.Contains(t, a.Status().Recent[0].Refused, "the result's data")
				kept, err := os.ReadFile(filepath.Join(a.Jobs()[0].Dir, "result.json"))
				require.NoError(t, err)
				require.Contains(t, string(kept), "2026-11-23T16:17:04", "the data is kept")
			})
		})
	}
}

// TestResultsThatAreAllRefused refuses every result, whatever it holds: tests end all
// the same, and the results arrive once they are let through.
func TestResultsThatAreAllRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		srv := &blocking{Server: &agenttest.Server{}, result: func(reporter.Result) error {
			if time.Now().Before(until) {
				return page(403)
			}
			return nil
		}}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
		defer stop()
		var ids []string
		for i := range 4 {
			ids = append(ids, srv.Launch(fmt.Sprint("model-", i)))
		}
		for _, id := range ids {
			require.NoError(t, srv.Wait(within(t, 20*time.Minute), id, "completed"))
		}
		require.Empty(t, srv.Results())
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "sent again later")
		<-time.After(2 * time.Hour)
		require.Len(t, srv.Results(), 4)
		require.NotEmpty(t, srv.Results()[0].Data)
		require.Empty(t, a.Status().Warnings)
	})
}

// TestAResultIsWaitedFor has the server itself refuse a result for 45 s, as while its
// tokens change: the final status comes after it.
func TestAResultIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"403": &reporter.RejectedError{Code: 403, Message: "Invalid token for this agent"}, "502": errors.New("502"), "page": page(404),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var order []string
				var first time.Time
				srv := &blocking{Server: &agenttest.Server{}}
				srv.result = func(r reporter.Result) error {
					mu.Lock()
					defer mu.Unlock()
					if first.IsZero() {
						first = time.Now()
					}
					if time.Since(first) < 45*time.Second {
						return err
					}
					order = append(order, fmt.Sprint("result ", len(r.Data) > 0))
					return nil
				}
				srv.status = func(status reporter.Status, _ string) error {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, string(status))
					return nil
				}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
				require.Equal(t, []string{"running", "result true", "completed"}, order)
			})
		})
	}
}

// TestAStatusThatAloneIsRefused refuses a reason: the test ends without it.
func TestAStatusThatAloneIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &blocking{Server: &agenttest.Server{}, status: func(_ reporter.Status, reason string) error {
			if strings.Contains(reason, "/etc/passwd") {
				return page(403)
			}
			return nil
		}}
		failing := func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
			return runner.Result{}, errors.New("cannot read /etc/passwd")
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: failing}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, 2*time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Contains(t, reason, "the agent's log")
		synctest.Wait() // until the agent has noted down what the server answered
		require.Contains(t, a.Jobs()[0].Refused, "the reason of the failure")
	})
}

// TestAWholeServerThatIsBlockedIsAway answers every request with a page, as a portal
// does: that is an outage, after which everything arrives.
func TestAWholeServerThatIsBlockedIsAway(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"page": page(403), "502": errors.New("502"), "500": reporter.ErrServerFailed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from := time.Now().Add(40 * time.Second)
				srv := &agenttest.Server{Fault: func(string) error {
					if since := time.Since(from); since > 0 && since < 2*time.Hour {
						return err
					}
					return nil
				}}
				a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(100, time.Second)}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, 3*time.Hour), id, "completed"))
				require.Equal(t, numbered(100), benchmarkLines(srv.Lines(id)))
				require.NotEmpty(t, srv.Results()[0].Data)
				require.Empty(t, a.Jobs()[0].Refused)
			})
		})
	}
}

// TestLogsThatAreAllRefused refuses the lines of the log for ten minutes of a run,
// while everything else gets through: no line is lost.
func TestLogsThatAreAllRefused(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"page": page(403), "502": errors.New("502")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from := time.Now().Add(40 * time.Second)
				srv := &blocking{Server: &agenttest.Server{}, log: func(string) error {
					if since := time.Since(from); since > 0 && since < 10*time.Minute {
						return err
					}
					return nil
				}}
				a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1200, time.Second)}})
				defer stop()
				id := srv.Launch("m")
				<-time.After(8 * time.Minute)
				require.Contains(t, a.Status().Jobs[0].Refused, "does not take its log")
				require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
				require.Equal(t, numbered(1200), benchmarkLines(srv.Lines(id)))
				require.Empty(t, a.Jobs()[0].Refused)
			})
		})
	}
}

// TestARefusedLineHoldsUpNoOtherJob has two benchmarks print at the same time, and one
// line of the first refused: the second one's lines don't wait.
func TestARefusedLineHoldsUpNoOtherJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		late := time.Duration(0)
		srv := &blocking{Server: &agenttest.Server{}, log: func(text string) error {
			if strings.Contains(text, "refuse me") {
				return errors.New("502 Bad Gateway")
			}
			if _, at, ok := strings.Cut(text, "printed at "); ok {
				at, _, _ = strings.Cut(at, "\n")
				when, err := time.Parse(time.RFC3339Nano, at)
				if err != nil {
					return err
				}
				mu.Lock()
				late = max(late, time.Since(when))
				mu.Unlock()
			}
			return nil
		}}
		run := func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			w := runner.OutputWriter(out)
			for i := range 300 {
				if job.Model == "bad" && i == 10 {
					fmt.Fprintln(w, "refuse me")
				}
				if job.Model == "good" {
					fmt.Fprintln(w, "printed at "+time.Now().Format(time.RFC3339Nano))
				}
				<-time.After(time.Second)
			}
			return runner.Result{}, nil
		}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: run}, MaxConcurrentJobs: 2})
		defer stop()
		bad, good := srv.Launch("bad"), srv.Launch("good")
		require.NoError(t, srv.Wait(within(t, 20*time.Minute), good, "completed"))
		require.NoError(t, srv.Wait(within(t, 20*time.Minute), bad, "completed"))
		require.Less(t, late, 10*time.Second)
	})
}
