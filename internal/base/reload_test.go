package base_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
)

func TestReloaded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	at := time.Now().Add(-time.Hour)
	write := func(text string) {
		at = at.Add(time.Second)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	errBad := errors.New("bad")
	loads := 0
	load := func() (string, error) {
		loads++
		text, err := os.ReadFile(path)
		if string(text) == "bad" {
			err = errBad
		}
		return string(text), err
	}
	var told []string
	tell := func(v string, err error) {
		if err != nil {
			v = err.Error()
		}
		told = append(told, v)
	}
	_, err := base.NewReloaded([]string{path, ""}, load, tell)
	require.ErrorIs(t, err, os.ErrNotExist)
	write("one")
	r, err := base.NewReloaded([]string{path, ""}, load, tell)
	require.NoError(t, err)
	loads = 0
	require.Equal(t, "one", r.Get())
	require.Zero(t, loads, "what has not changed is not read again")

	write("bad")
	require.Equal(t, "one", r.Get())
	require.Equal(t, "one", r.Get())
	require.Equal(t, []string{"bad"}, told, "a failure is told once")
	write("two")
	require.Equal(t, "two", r.Get())
	require.NoError(t, os.Remove(path))
	require.Equal(t, "two", r.Get())
	require.Len(t, told, 3)
}

// A disk that does not answer one caller holds no other one up.
func TestReloadedWaitsForNobody(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	hang, entered := make(chan struct{}), make(chan struct{}, 1)
	first := true
	r, err := base.NewReloaded([]string{path}, func() (int, error) {
		if first {
			first = false
			return 1, nil
		}
		entered <- struct{}{}
		<-hang
		return 2, nil
	}, func(int, error) {})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("longer"), 0o600))
	var slow sync.WaitGroup
	slow.Go(func() { require.Equal(t, 2, r.Get()) })
	<-entered
	require.Equal(t, 1, r.Get())
	close(hang)
	slow.Wait()
	require.Equal(t, 2, r.Get())
}
