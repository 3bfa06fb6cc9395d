package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/agent/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hook = "https://hooks.example/services/T000/secret-path"

// receiver is a web hook, as a transport: it has no network, and so works in a bubble.
type receiver struct {
	mu     sync.Mutex
	answer func(attempt int) (*http.Response, error) // nil answers 200. guarded by mu
	bodies [][]byte                                  // of all attempts. guarded by mu
	taken  [][]byte                                  // of those that were answered with success. guarded by mu
	heads  []http.Header                             // guarded by mu
	times  []time.Time                               // guarded by mu
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.bodies, r.heads, r.times = append(r.bodies, body), append(r.heads, req.Header), append(r.times, time.Now())
	answer, attempt := r.answer, len(r.bodies)
	r.mu.Unlock()
	resp := status(200, "ok")
	if answer != nil {
		if resp, err = answer(attempt); err != nil {
			return nil, err
		}
		if resp == nil { // it never answers
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
	}
	if resp.StatusCode == 200 {
		r.mu.Lock()
		r.taken = append(r.taken, body)
		r.mu.Unlock()
	}
	return resp, nil
}

func (r *receiver) set(answer func(int) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// got returns the notifications that it took.
func (r *receiver) got(t *testing.T) (all []notify.Notification) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range r.taken {
		var n notify.Notification
		require.NoError(t, json.Unmarshal(body, &n))
		all = append(all, n)
	}
	return all
}

// attempts returns when it was asked.
func (r *receiver) attempts() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.times)
}

func status(code int, text string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
}

func titles(all []notify.Notification) (titles []string) {
	for _, n := range all {
		titles = append(titles, n.Title)
	}
	return titles
}

// fake is an agent whose jobs and problems are set.
type fake struct {
	mu       sync.Mutex
	jobs     []agent.JobStatus
	problems []health.Problem
	log      []string
	events   chan agent.Event
}

func newFake() *fake { return &fake{events: make(chan agent.Event, 1000)} }

func (f *fake) Status() agent.Status { return agent.Status{Name: "gpu-1"} }

func (f *fake) Jobs() []agent.JobStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.jobs)
}

func (f *fake) Job(id string) (agent.JobStatus, error) {
	for _, j := range f.Jobs() {
		if j.CommandID == id {
			return j, nil
		}
	}
	return agent.JobStatus{}, agent.ErrNoJob
}

func (f *fake) Problems() []health.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.problems)
}

func (f *fake) LogTail(context.Context, string, int) ([]string, error) { return f.log, nil }

// add adds a job that has ended.
func (f *fake) add(j agent.JobStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs = append(f.jobs, j)
}

// end ends a job, with an event unless nobody hears of it.
func (f *fake) end(id string, state agent.State, heard bool) {
	f.add(agent.JobStatus{CommandID: id, Type: agent.TypeRunTest, Model: "model-" + id, Engine: "vllm", Suite: "quick", State: state, Error: "Exit 1", Fix: "look at the log", StartedAt: time.Now().Add(-time.Minute), EndedAt: time.Now()})
	if heard {
		f.events <- agent.Event{Kind: agent.EventEnded, JobID: id, State: state}
	}
}

func (f *fake) set(problems ...health.Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = problems
}

// seq returns the agent's events until ctx is done.
func (f *fake) seq(ctx context.Context) iter.Seq[agent.Event] {
	return func(yield func(agent.Event) bool) {
		for {
			select {
			case e := <-f.events:
				if !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// run runs a notifier of f in dir until stop is called.
func run(t *testing.T, f *fake, r *receiver, dir string, change func(*notify.Config)) (n *notify.Notifier, stop func()) {
	t.Helper()
	cfg := notify.Config{URL: hook, Dir: dir, Transport: r}
	if change != nil {
		change(&cfg)
	}
	n, err := notify.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx, f, f.seq(ctx)) })
	synctest.Wait()
	return n, sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
}

func TestJobFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		f.log = []string{"loading", "hf_secrettoken is wrong\x1b[2J"}
		_, stop := run(t, f, r, t.TempDir(), func(cfg *notify.Config) { cfg.Secrets = []string{"hf_secrettoken"} })
		defer stop()
		f.end("a", agent.StateFailed, true)
		f.end("b", agent.StateCompleted, true)
		f.end("c", agent.StateCancelled, true)
		time.Sleep(time.Second)
		got := r.got(t)
		require.Len(t, got, 1)
		require.Equal(t, notify.JobFailed, got[0].Event)
		require.Equal(t, "gpu-1: job failed: model-a", got[0].Title)
		require.Equal(t, "Exit 1", got[0].Cause)
		require.Equal(t, "look at the log", got[0].Remedy)
		require.InDelta(t, 60, got[0].Job.DurationS, 0.1)
		require.Len(t, got[0].Log, 2)
		require.NotContains(t, got[0].Log[1], "secrettoken")
		require.NotContains(t, got[0].Log[1], "\x1b")
		require.Len(t, got[0].ID, 32)
		f.events <- agent.Event{Kind: agent.EventEnded, JobID: "a"}
		time.Sleep(time.Second)
		require.Len(t, r.got(t), 1, "a job ends once")
	})
}

// Other jobs than benchmarks have no model, and are told as what they are.
func TestEngineFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		_, stop := run(t, f, r, t.TempDir(), nil)
		defer stop()
		f.add(agent.JobStatus{CommandID: "a", Type: agent.TypeStartEngine, Engine: "ollama", State: agent.StateFailed, EndedAt: time.Now()})
		f.events <- agent.Event{Kind: agent.EventEnded, JobID: "a"}
		time.Sleep(time.Second)
		require.Equal(t, []string{"gpu-1: start_engine failed: ollama"}, titles(r.got(t)))
	})
}

func TestAllEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		_, stop := run(t, f, r, t.TempDir(), func(cfg *notify.Config) { cfg.Events = notify.Events() })
		defer stop()
		f.end("b", agent.StateCompleted, true)
		f.end("c", agent.StateCancelled, true)
		time.Sleep(time.Second)
		require.Equal(t, []string{"gpu-1: job completed: model-b", "gpu-1: job cancelled: model-c"}, titles(r.got(t)))
	})
}

// A job whose figures are worth nothing is told as such, and once.
func TestInvalidRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		_, stop := run(t, f, r, t.TempDir(), nil)
		defer stop()
		for verdict, state := range map[string]agent.State{"valid": agent.StateCompleted, "invalid": agent.StateCompleted} {
			f.add(agent.JobStatus{CommandID: verdict, Type: agent.TypeRunTest, Model: "m", State: state, EndedAt: time.Now(),
				Integrity: &agent.JobIntegrity{Verdict: verdict, Text: "Machine: INVALID - hardware thermal slowdown"}})
			f.events <- agent.Event{Kind: agent.EventEnded, JobID: verdict}
		}
		time.Sleep(time.Second)
		got := r.got(t)
		require.Len(t, got, 1)
		require.Equal(t, notify.IntegrityInvalid, got[0].Event)
		require.Equal(t, "gpu-1: figures are invalid: m", got[0].Title)
		require.Contains(t, got[0].Cause, "thermal slowdown")
		require.Equal(t, "invalid", got[0].Job.Integrity)
	})
}

// A problem is told once when it begins and once when it is over, also by the next
// process, and not at all if it comes and goes.
func TestDegraded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, dir := newFake(), &receiver{}, t.TempDir()
		_, stop := run(t, f, r, dir, nil)
		gpu := health.New(health.GPU, "GPU 5 fell off the bus")
		for range 10 { // it flaps
			f.set(gpu)
			time.Sleep(30 * time.Second)
			f.set()
			time.Sleep(30 * time.Second)
		}
		require.Empty(t, r.got(t))

		f.set(gpu, health.New(health.DiskLow, ""))
		time.Sleep(2 * time.Minute)
		got := r.got(t)
		require.Equal(t, []string{"gpu-1: degraded: a disk is almost full", "gpu-1: degraded: a GPU cannot be used"}, titles(got))
		require.Equal(t, "a GPU cannot be used: GPU 5 fell off the bus", got[1].Cause)
		require.Contains(t, got[1].Remedy, "nvidia-smi")
		require.True(t, got[1].Blocks)
		require.Equal(t, "gpu", got[1].Reason)

		f.set(health.New(health.Stopping, ""))
		time.Sleep(5 * time.Minute)
		stop()
		f.set(gpu)
		_, stop = run(t, f, r, dir, nil)
		defer stop()
		time.Sleep(5 * time.Minute)
		got = r.got(t)
		require.Len(t, got, 3, "a restart repeats nothing")
		require.Equal(t, "gpu-1: recovered: disk-low", got[2].Title)
		require.Equal(t, notify.Recovered, got[2].Event)
		f.set()
		time.Sleep(5 * time.Minute)
		require.Equal(t, "gpu-1: recovered: gpu", r.got(t)[3].Title)
		require.Len(t, r.got(t), 4)
	})
}

// What happened while the notifier did not run, or the receiver was away, is told later
// and once.
func TestRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, dir := newFake(), &receiver{}, t.TempDir()
		f.end("old", agent.StateFailed, false)
		time.Sleep(time.Second)
		_, stop := run(t, f, r, dir, nil)
		time.Sleep(time.Second)
		require.Empty(t, r.got(t), "what ended before there were notifications is not told")

		r.set(func(int) (*http.Response, error) { return nil, errors.New("connection refused") })
		f.end("a", agent.StateFailed, true)
		time.Sleep(time.Minute)
		stop()
		f.end("b", agent.StateFailed, false)
		f.end("c", agent.StateCompleted, false)
		time.Sleep(time.Hour)

		r.set(nil)
		_, stop = run(t, f, r, dir, nil)
		f.end("d", agent.StateFailed, true)
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, []string{"gpu-1: job failed: model-a", "gpu-1: job failed: model-b", "gpu-1: job failed: model-d"}, titles(r.got(t)))
		_, stop = run(t, f, r, dir, nil)
		f.end("e", agent.StateCompleted, true)
		time.Sleep(time.Hour)
		stop()
		require.Len(t, r.got(t), 3)
	})
}

// A request that is on its way when the agent stops is waited for, but not for long.
func TestStopWhileSending(t *testing.T) {
	t.Parallel()
	for answers, times := range map[bool]int{true: 1, false: 2} {
		synctest.Test(t, func(t *testing.T) {
			f, r, dir := newFake(), &receiver{}, t.TempDir()
			r.set(func(attempt int) (*http.Response, error) {
				if attempt == 1 && !answers {
					return nil, nil
				}
				time.Sleep(time.Second)
				return status(200, ""), nil
			})
			_, stop := run(t, f, r, dir, nil)
			f.end("a", agent.StateFailed, true)
			synctest.Wait()
			stop()
			_, stop = run(t, f, r, dir, nil)
			time.Sleep(time.Minute)
			stop()
			require.Len(t, r.attempts(), times)
		})
	}
}

// Jobs whose events were lost are found.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		_, stop := run(t, f, r, t.TempDir(), nil)
		defer stop()
		time.Sleep(time.Second)
		f.end("a", agent.StateFailed, false)
		f.events <- agent.Event{Kind: agent.EventLost, Lost: 1}
		time.Sleep(time.Second)
		require.Equal(t, []string{"gpu-1: job failed: model-a"}, titles(r.got(t)))
	})
}

// A receiver that is away, slow or broken is tried less and less often, and gets
// everything in order once it works. The same notification has the same ID.
func TestReceiverInTrouble(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(int) (*http.Response, error){
		"away":      func(int) (*http.Response, error) { return nil, errors.New("connection refused") },
		"slow":      func(int) (*http.Response, error) { return nil, nil },
		"broken":    func(int) (*http.Response, error) { return status(500, "trouble"), nil },
		"elsewhere": func(int) (*http.Response, error) { return status(302, ""), nil },
		"not there": func(int) (*http.Response, error) { return status(404, "no such hook"), nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, r := newFake(), &receiver{}
				r.set(answer)
				var log bytes.Buffer
				n, stop := run(t, f, r, t.TempDir(), func(cfg *notify.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
				f.end("a", agent.StateFailed, true)
				f.end("b", agent.StateFailed, true)
				time.Sleep(time.Hour)
				tries := len(r.attempts())
				require.Greater(t, tries, 7)
				require.Less(t, tries, 20)
				require.Len(t, n.Warnings(), 1)
				require.Contains(t, n.Warnings()[0], "and 2 wait: ")
				require.NotContains(t, n.Warnings()[0], "secret-path")
				r.set(nil)
				time.Sleep(15 * time.Minute)
				require.Equal(t, []string{"gpu-1: job failed: model-a", "gpu-1: job failed: model-b"}, titles(r.got(t)))
				require.Empty(t, n.Warnings())
				stop()
				var first, last notify.Notification
				require.NoError(t, json.Unmarshal(r.bodies[0], &first))
				require.NoError(t, json.Unmarshal(r.taken[0], &last))
				require.Equal(t, first, last)
				require.Equal(t, first.ID, r.heads[0].Get("webhook-id"))
				require.Equal(t, 2, strings.Count(log.String(), "\n"), "the first failure and the recovery: %s", &log)
				require.NotContains(t, log.String(), "secret-path")
			})
		})
	}
}

func TestReceiverAsksToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		r.set(func(attempt int) (*http.Response, error) {
			if attempt > 1 {
				return status(200, ""), nil
			}
			busy := status(429, "")
			busy.Header.Set("Retry-After", "1800")
			return busy, nil
		})
		_, stop := run(t, f, r, t.TempDir(), nil)
		defer stop()
		f.end("a", agent.StateFailed, true)
		time.Sleep(time.Hour)
		times := r.attempts()
		require.Len(t, times, 2)
		require.Equal(t, 30*time.Minute, times[1].Sub(times[0]))
	})
}

// What a receiver refuses for good holds up nothing else, and neither does what is old.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		r.set(func(attempt int) (*http.Response, error) {
			if attempt == 1 {
				return status(400, "no"), nil
			}
			return status(200, ""), nil
		})
		_, stop := run(t, f, r, t.TempDir(), nil)
		defer stop()
		f.end("a", agent.StateFailed, true)
		time.Sleep(time.Second)
		f.end("b", agent.StateFailed, true)
		time.Sleep(time.Minute)
		got := r.got(t)
		require.Equal(t, []string{"gpu-1: job failed: model-b"}, titles(got))
		require.Equal(t, 1, got[0].Missed)

		r.set(func(int) (*http.Response, error) { return status(500, ""), nil })
		f.end("c", agent.StateFailed, true)
		time.Sleep(4 * 24 * time.Hour)
		r.set(nil)
		f.end("d", agent.StateFailed, true)
		time.Sleep(time.Hour)
		require.Equal(t, []string{"gpu-1: job failed: model-b", "gpu-1: job failed: model-d"}, titles(r.got(t)))
	})
}

// A flood is spread, and what finds no room is counted. The limit holds over restarts.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r, dir := newFake(), &receiver{}, t.TempDir()
		few := func(cfg *notify.Config) { cfg.PerHour = 10 }
		_, stop := run(t, f, r, dir, few)
		time.Sleep(time.Second)
		for i := range 200 {
			f.end(fmt.Sprintf("%03d", i), agent.StateFailed, true)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(30 * time.Minute)
		require.Len(t, r.got(t), 10)
		stop()
		_, stop = run(t, f, r, dir, few)
		defer stop()
		time.Sleep(20 * time.Minute)
		require.Len(t, r.got(t), 10)
		time.Sleep(20 * time.Hour)
		got := r.got(t)
		require.Len(t, got, 110)
		require.Equal(t, "gpu-1: job failed: model-199", got[109].Title)
		missed := 0
		for _, n := range got {
			missed += n.Missed
		}
		require.Equal(t, 90, missed)
		times := r.attempts()
		for _, at := range times { // in no hour were there more
			in := 0
			for _, other := range times {
				if d := other.Sub(at); d >= 0 && d < time.Hour {
					in++
				}
			}
			require.LessOrEqual(t, in, 10)
		}
	})
}

// A disk that refuses the file keeps nobody from being told.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, r := newFake(), &receiver{}
		var log bytes.Buffer
		_, stop := run(t, f, r, filepath.Join(t.TempDir(), "missing"), func(cfg *notify.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer stop()
		f.end("a", agent.StateFailed, true)
		time.Sleep(time.Minute)
		require.Len(t, r.got(t), 1)
		require.Equal(t, 1, strings.Count(log.String(), "could not be written"))
	})
}

// A broken file is as good as none.
func TestBrokenFile(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{", `{"waiting":[null]}`, `{"through":"x"}`, `[]`, "", `{"sent":["2999-01-01T00:00:00Z"]}`} {
		synctest.Test(t, func(t *testing.T) {
			f, r, dir := newFake(), &receiver{}, t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "notify.json"), []byte(text), 0o600))
			_, stop := run(t, f, r, dir, func(cfg *notify.Config) { cfg.PerHour = 1 })
			defer stop()
			time.Sleep(time.Second)
			f.end("a", agent.StateFailed, true)
			time.Sleep(time.Minute)
			require.Len(t, r.got(t), 1, text)
		})
	}
}

// A test is sent at once, and says why it was not taken.
func TestTest(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	n, err := notify.New(notify.Config{URL: hook, Dir: t.TempDir(), Transport: r})
	require.NoError(t, err)
	require.NoError(t, n.Test(t.Context(), "gpu-1"))
	require.Equal(t, []string{"gpu-1: test"}, titles(r.got(t)))
	r.set(func(int) (*http.Response, error) { return status(403, "invalid_token"), nil })
	require.EqualError(t, n.Test(t.Context(), "gpu-1"), "the receiver answered HTTP 403: invalid_token")
	r.set(func(int) (*http.Response, error) { return nil, errors.New("connection refused") })
	require.EqualError(t, n.Test(t.Context(), "gpu-1"), "connection refused")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := notify.New(notify.Config{URL: "ftp://secret-host/x", Key: "whsec_!", Format: "xml", Events: []notify.Event{"x"}, PerHour: -1})
	for _, want := range []string{"URL is not an http or https address", "Key: what follows whsec_ is not base64", `Format "xml" is not one of [json slack cloudevents]`,
		`Events: "x" is not one of`, "PerHour is -1, not from 1 to 1000", "Dir is empty"} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "secret-host")
}
