package modelcopy

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs c with as many timers as a copy of one worker can use.
func start(t *testing.T, c *copier) (*Result, error) {
	t.Helper()
	timers := make([]*OpTimer, 4)
	for i := range timers {
		timers[i] = new(OpTimer)
	}
	return c.run(t.Context(), timers)
}

// copyWhile copies a model of two files and calls meddle each time between the
// first scan of the source and the first byte.
func copyWhile(t *testing.T, share string, meddle func(attempt int)) (stage string, notes []string, err error) {
	t.Helper()
	for name, size := range map[string]int{"m/a": 3 << 20, "m/b": 10} {
		at := filepath.Join(share, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		require.NoError(t, os.WriteFile(at, []byte(strings.Repeat("w", size)), 0o644))
	}
	stage = filepath.Join(t.TempDir(), "stage")
	attempt := 0
	_, err = start(t, newCopier(Options{
		Share: share, Model: "m", Stage: stage, Counters: new(Counters),
		Note:    func(text string) { notes = append(notes, text) },
		Reserve: func(_, _ int64) error { attempt++; meddle(attempt); return nil },
	}))
	return stage, notes, err
}

// rerun copies the model of copyWhile into its stage once more.
func rerun(t *testing.T, share, stage string) *copier {
	t.Helper()
	c := newCopier(Options{Share: share, Model: "m", Stage: stage, Counters: new(Counters), Note: func(string) {}, Reserve: func(_, _ int64) error { return nil }})
	_, err := start(t, c)
	require.NoError(t, err)
	return c
}

// noise returns n bytes that look like weights, the same for the same seed.
func noise(n int, seed uint64) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p) // never fails
	return string(p)
}
