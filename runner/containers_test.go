package runner_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// containers is a runner with a container engine.
type containers struct {
	runnertest.Fake
	engines []string
	err     error
}

func (c *containers) Ready(context.Context) error               { return c.err }
func (c *containers) Engines(context.Context) ([]string, error) { return c.engines, c.err }

func TestFallbackAnswersForItsContainers(t *testing.T) {
	t.Parallel()
	down := errors.New("no engine answers")
	plain, off := &runnertest.Fake{}, &containers{err: down}
	one, two := &containers{engines: []string{"vllm", "ollama"}}, &containers{engines: []string{"llama_cpp", "vllm"}}
	for _, tt := range []struct {
		name    string
		runner  *runner.Fallback
		ready   error
		engines []string
		err     error
	}{
		{"no members", runner.NewFallback(), runner.ErrUnavailable, nil, nil},
		{"none runs containers", runner.NewFallback(plain), runner.ErrUnavailable, nil, nil},
		{"a former member is not asked", runner.NewFallback(plain).Former(one), runner.ErrUnavailable, nil, nil},
		{"one", runner.NewFallback(plain, one), nil, []string{"vllm", "ollama"}, nil},
		{"several, one of them wrapped", runner.NewFallback(one, wrapped{two}), nil, []string{"vllm", "ollama", "llama_cpp"}, nil},
		{"one of several does not answer", runner.NewFallback(off, one), nil, []string{"vllm", "ollama"}, down},
		{"none answers", runner.NewFallback(off), down, nil, down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, ok := runner.As[runner.ContainerRunner](tt.runner)
			require.True(t, ok)
			require.ErrorIs(t, c.Ready(t.Context()), tt.ready)
			engines, err := c.Engines(t.Context())
			require.ErrorIs(t, err, tt.err)
			require.Equal(t, tt.engines, engines)
		})
	}
}
