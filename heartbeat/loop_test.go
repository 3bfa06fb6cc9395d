package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusal is a server's final word, as reporter.RejectedError is.
type refusal struct{}

func (refusal) Error() string  { return "Invalid token for this agent" }
func (refusal) Rejected() bool { return true }

// script is a Client that answers as told and notes when it was asked.
type script struct {
	mu        sync.Mutex
	registers []time.Time
	beats     []time.Time
	ids       []string
	register  func(n int) error // n counts from 0
	beat      func(n int) (Answer, error)
}

func (s *script) Register(context.Context) (string, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.registers)
	s.registers = append(s.registers, time.Now())
	if s.register != nil {
		if err := s.register(n); err != nil {
			return "", 0, err
		}
	}
	return fmt.Sprintf("id-%d", n), 0, nil
}

func (s *script) Heartbeat(_ context.Context, id string, _ Beat) (Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.beats)
	s.beats = append(s.beats, time.Now())
	s.ids = append(s.ids, id)
	if s.beat != nil {
		return s.beat(n)
	}
	return Answer{}, nil
}

// gaps returns the waits between the beats.
func (s *script) gaps() []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(s.beats); i++ {
		gaps = append(gaps, s.beats[i].Sub(s.beats[i-1]))
	}
	return gaps
}

// run runs a loop over c for d of the bubble's time.
func run(t *testing.T, cfg Config, d time.Duration, during func(l *Loop)) *Loop {
	t.Helper()
	if cfg.Compose == nil {
		cfg.Compose = func() Beat { return Beat{Status: StatusIdle} }
	}
	l, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	if during != nil {
		during(l)
	}
	require.NoError(t, <-done)
	return l
}

func TestIntervalIsOnlyShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		run(t, Config{Client: s}, 30*time.Minute, nil)
		require.Len(t, s.registers, 1)
		distinct := map[time.Duration]bool{}
		for _, gap := range s.gaps() {
			require.LessOrEqual(t, gap, 30*time.Second)
			require.GreaterOrEqual(t, gap, 27*time.Second)
			distinct[gap] = true
		}
		require.Greater(t, len(distinct), 10, "beats are jittered")
	})
}

func TestAtLeastAMinuteWhileABenchmarkRuns(t *testing.T) {
	for name, said := range map[string]Beat{
		"running":                       {Status: StatusRunning},
		"running on a GPU that is sick": {Status: StatusError, Busy: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{}
				run(t, Config{Client: s, Interval: MinInterval, Compose: func() Beat { return said }}, 30*time.Minute, nil)
				require.NotEmpty(t, s.gaps())
				distinct := map[time.Duration]bool{}
				for _, gap := range s.gaps() {
					require.GreaterOrEqual(t, gap, time.Minute)
					require.LessOrEqual(t, gap, 66*time.Second)
					distinct[gap] = true
				}
				require.Greater(t, len(distinct), 10, "beats are jittered")
			})
		})
	}
}

func TestFailedBeatIsTriedAgainWithinThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{beat: func(n int) (Answer, error) {
			if n > 0 && n < 200 {
				return Answer{}, errors.New("connection refused")
			}
			return Answer{}, nil
		}}
		l := run(t, Config{Client: s, Interval: MaxInterval}, 3*time.Hour, nil)
		require.Greater(t, len(s.beats), 200)
		for _, gap := range s.gaps()[1:200] {
			require.LessOrEqual(t, gap, 30*time.Second)
		}
		require.Len(t, s.registers, 1, "an outage is no reason to register again")
		require.Zero(t, l.State().FailingFor)
		require.Empty(t, l.State().LastError)
	})
}

func TestUnknownAgentRegistersAgainAndBeatsOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{beat: func(n int) (Answer, error) {
			if n == 1 {
				return Answer{}, fmt.Errorf("beat: %w", ErrUnknownAgent)
			}
			return Answer{}, nil
		}}
		run(t, Config{Client: s}, 40*time.Second, nil)
		require.Len(t, s.registers, 2)
		require.Equal(t, []string{"id-0", "id-0", "id-1"}, s.ids)
		require.Zero(t, s.gaps()[1], "the beat follows the registration at once")
	})
}

func TestServerThatKeepsForgettingIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{beat: func(int) (Answer, error) { return Answer{}, ErrUnknownAgent }}
		run(t, Config{Client: s}, 10*time.Minute, nil)
		require.Less(t, len(s.beats), 150)
	})
}

func TestCanonicalIDIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{beat: func(int) (Answer, error) { return Answer{AgentID: "canonical"}, nil }}
		l := run(t, Config{Client: s, Name: "gpu-01"}, 40*time.Second, nil)
		require.Equal(t, []string{"id-0", "canonical"}, s.ids)
		require.Equal(t, "canonical", l.State().AgentID)
	})
}

func TestRefusedRegistrationSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{register: func(int) error { return refusal{} }}
		l := run(t, Config{Client: s}, 10*time.Minute, nil)
		require.LessOrEqual(t, len(s.registers), 21)
		require.GreaterOrEqual(t, len(s.registers), 10)
		require.Contains(t, l.State().LastError, "Invalid token")
		require.False(t, l.State().Registered)
	})
}

// What the server said last stands through an outage, until it takes a beat.
func TestRefusalStandsUntilABeatGoesThrough(t *testing.T) {
	for name, fault := range map[string]error{
		"refused": refusal{}, "no token": fmt.Errorf("beat: %w", ErrUnauthorized), "forgotten": ErrUnknownAgent,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				phase := ""
				s := &script{beat: func(int) (Answer, error) {
					switch phase {
					case "refuses":
						return Answer{}, fault
					case "away":
						return Answer{}, errors.New("connection refused")
					}
					return Answer{}, nil
				}}
				run(t, Config{Client: s}, 15*time.Minute, func(l *Loop) {
					wait := func(next string) State {
						s.mu.Lock()
						phase = next
						s.mu.Unlock()
						time.Sleep(2 * time.Minute)
						return l.State()
					}
					require.Empty(t, wait("").Refusal)
					state := wait("refuses")
					require.Contains(t, state.Refusal, fault.Error())
					require.True(t, state.Registered)
					state = wait("away")
					require.Contains(t, state.Refusal, fault.Error())
					require.Contains(t, state.LastError, "connection refused")
					require.Empty(t, wait("").Refusal)
					require.Empty(t, wait("away").Refusal, "an outage is no refusal")
				})
			})
		})
	}
}

func TestNudgeBeatsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		run(t, Config{Client: s}, 20*time.Second, func(l *Loop) {
			<-time.After(5 * time.Second)
			l.Nudge()
			l.Nudge()
			synctest.Wait()
		})
		require.Len(t, s.beats, 2)
		require.InDelta(t, 5, s.gaps()[0].Seconds(), 0.2)
	})
}

func TestRenewRegistersAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		run(t, Config{Client: s}, 20*time.Second, func(l *Loop) {
			<-time.After(5 * time.Second)
			l.Renew()
			synctest.Wait()
		})
		require.Len(t, s.registers, 2)
		require.Equal(t, []string{"id-0", "id-1"}, s.ids)
	})
}

func TestAnswerIsHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := Answer{AgentID: "a", Commands: []Command{{ID: "c"}}, Settings: map[string]string{"kitt_image": "x"}}
		s := &script{beat: func(int) (Answer, error) { return want, nil }}
		var got []Answer
		run(t, Config{Client: s, Handle: func(_ context.Context, a Answer) { got = append(got, a) }}, time.Second, nil)
		require.Equal(t, []Answer{want}, got)
	})
}

func TestIntervalBounds(t *testing.T) {
	t.Parallel()
	l, err := New(Config{Client: &script{}, Compose: func() Beat { return Beat{} }})
	require.NoError(t, err)
	require.Error(t, l.SetInterval(MinInterval-1))
	require.NoError(t, l.SetInterval(MinInterval))
	require.NoError(t, l.SetInterval(MaxInterval))
	require.Error(t, l.SetInterval(MaxInterval+1))
	require.Equal(t, MaxInterval, l.State().Interval)
	_, err = New(Config{Interval: time.Hour})
	require.ErrorContains(t, err, "Client is missing")
	require.ErrorContains(t, err, "Compose is missing")
	require.ErrorContains(t, err, "not within 10s and 5m0s")
}

func TestNudgeInBeatsInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		run(t, Config{Client: s}, 25*time.Second, func(l *Loop) {
			<-time.After(time.Second)
			l.NudgeIn(time.Second) // replaced
			l.NudgeIn(5*time.Second, 11*time.Second)
		})
		require.Equal(t, []time.Duration{6 * time.Second, 6 * time.Second}, s.gaps())
	})
}

func TestABenchmarkWithdrawsBeatsInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		var busy atomic.Bool
		compose := func() Beat { return Beat{Status: StatusIdle, Busy: busy.Load()} }
		run(t, Config{Client: s, Compose: compose}, 50*time.Second, func(l *Loop) {
			<-time.After(time.Second)
			l.NudgeIn(5*time.Second, 11*time.Second)
			busy.Store(true)
			l.Nudge()
			<-time.After(time.Second)
			l.NudgeIn(5 * time.Second)
		})
		require.Len(t, s.beats, 2)
	})
}

func TestBeatWaitsForItsOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *Loop
		answer := errors.New("connection refused")
		s := &script{beat: func(n int) (Answer, error) {
			<-time.After(2 * time.Second)
			if n == 1 {
				return Answer{}, answer
			}
			return Answer{}, nil
		}}
		l = run(t, Config{Client: s}, 20*time.Second, func(l *Loop) {
			<-time.After(time.Second) // the first beat is on its way, and is not the one
			require.ErrorIs(t, l.Beat(t.Context()), answer)
			require.NoError(t, l.Beat(t.Context()))
			require.Len(t, s.beats, 3)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, l.Beat(ctx), context.DeadlineExceeded)
		})
		require.ErrorIs(t, l.Beat(t.Context()), ErrNotRunning)
	})
}

// TestABadIDInAnAnswerIsLeftAgain has one answer name an id with which no heartbeat gets
// through, in whatever way.
func TestABadIDInAnAnswerIsLeftAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		id    string
		fault error // of heartbeats with it
	}{
		"of nobody":             {"0123456789abcdef", ErrUnknownAgent},
		"of another agent":      {"fedcba9876543210", refusal{}},
		"of an agent elsewhere": {"fedcba9876543210", ErrUnauthorized},
		"refused by a proxy":    {"%3Cscript%3E", errors.New("400 Bad Request")},
		"two parts":             {"a/b", refusal{}},
		"dots":                  {"..", refusal{}},
		"long":                  {strings.Repeat("a", 1<<20), errors.New("414 URI Too Long")},
		"control characters":    {"a\nb", refusal{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{}
				s.beat = func(n int) (Answer, error) {
					switch {
					case s.ids[n] == tt.id:
						return Answer{}, tt.fault
					case n == 1:
						return Answer{AgentID: tt.id}, nil
					}
					return Answer{AgentID: s.ids[n]}, nil
				}
				l := run(t, Config{Client: s, Name: "gpu-01"}, 10*time.Minute, nil)
				require.NotEqual(t, tt.id, l.State().AgentID)
				require.Zero(t, l.State().FailingFor)
				require.Greater(t, len(s.beats), 15)
				require.LessOrEqual(t, len(s.registers), 2)
			})
		})
	}
}

func TestWhatCanBeAnID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", ".", "..", "a/b", "a b", "a\x00", "\xff", strings.Repeat("a", 129)} {
		require.False(t, isID(id), "%q", id)
	}
	for _, id := range []string{"d802cb05fd8a4b38", "gpu-01", "ü", "a%2Fb"} {
		require.True(t, isID(id), "%q", id)
	}
}
