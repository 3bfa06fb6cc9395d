package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/enginetest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheFakeKeepsTheContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &enginetest.Fake{Delay: time.Second}
		require.NoError(t, enginetest.Test(t.Context(), f, engine.Launch{ID: "job-1", Engine: "llama_cpp"}))
	})
}

func TestTheContractIsChecked(t *testing.T) {
	t.Parallel()
	err := enginetest.Test(t.Context(), engine.ReadOnly{}, engine.Launch{ID: "job-1", Engine: "llama_cpp"})
	require.ErrorContains(t, err, "Detect does not list llama_cpp")
	require.ErrorContains(t, err, "Start: this agent does not install, start or stop engines")
}

func TestAFakeEngineDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dead := &enginetest.Fake{Lines: []string{"loading"}, Delay: time.Minute}, errors.New("out of memory")
		var out runnertest.Recorder
		time.AfterFunc(time.Second, func() { f.End("vllm", dead) })
		require.ErrorIs(t, f.Start(t.Context(), engine.Launch{ID: "a", Engine: "vllm"}, 0, &out), dead)
		require.Equal(t, "loading\n", out.Text())
		require.Equal(t, 1, f.Began())
	})
}

func ExampleFake() {
	f := &enginetest.Fake{}
	ctx := context.Background()
	err := f.Start(ctx, engine.Launch{ID: "job-1", Engine: "ollama"}, 0, &runnertest.Recorder{})
	fmt.Println(err, f.Calls())
	// Output: <nil> [start ollama]
}
