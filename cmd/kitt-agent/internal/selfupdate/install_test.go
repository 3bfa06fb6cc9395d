package selfupdate_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"
)

// installed writes a script as the installed program, which says text when run.
func installed(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kitt-agent")
	require.NoError(t, os.WriteFile(path, []byte(script(text)), 0o755))
	return path
}

func script(text string) string { return "#!/bin/sh\n" + text + "\n" }

func open(t *testing.T, path string) *selfupdate.Install {
	t.Helper()
	in, err := selfupdate.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, in.Close()) })
	return in
}

// stage stages a program.
func stage(t *testing.T, in *selfupdate.Install, text string) string {
	t.Helper()
	staged, err := in.Stage(func(f *os.File) error {
		_, err := f.WriteString(script(text))
		return err
	})
	require.NoError(t, err)
	return staged
}

func requireText(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, script(text), string(got))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o100)
}

// requireOnly checks that nothing else is in the directory.
func requireOnly(t *testing.T, in *selfupdate.Install, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(in.Path()))
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.ElementsMatch(t, names, got)
}

func TestSwapAndRollback(t *testing.T) {
	t.Parallel()
	path := installed(t, "echo one")
	in := open(t, path)
	require.ErrorIs(t, in.Rollback(), selfupdate.ErrNoPrevious)
	require.NoError(t, in.Swap(stage(t, in, "echo two")))
	requireText(t, path, "echo two")
	requireText(t, in.Previous(), "echo one")
	require.NoError(t, in.Swap(stage(t, in, "echo three")))
	requireText(t, path, "echo three")
	requireText(t, in.Previous(), "echo two")
	require.NoError(t, in.Rollback())
	requireText(t, path, "echo two")
	requireText(t, in.Previous(), "echo three")
	require.NoError(t, in.Rollback())
	requireText(t, path, "echo three")
	requireOnly(t, in, "kitt-agent", "kitt-agent.previous")
}

// After a crash between the two steps of a swap the program and the one before
// it are one file with two names.
func TestSwapAfterACrash(t *testing.T) {
	t.Parallel()
	path := installed(t, "echo one")
	require.NoError(t, os.Link(path, path+".previous"))
	in := open(t, path)
	require.NoError(t, in.Swap(stage(t, in, "echo two")))
	requireText(t, path, "echo two")
	requireText(t, in.Previous(), "echo one")
	requireOnly(t, in, "kitt-agent", "kitt-agent.previous")
}

func TestOpenFollowsLinksAndSweeps(t *testing.T) {
	t.Parallel()
	path := installed(t, "echo one")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	left := filepath.Join(filepath.Dir(path), ".kitt-agent.update-123")
	require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
	other := filepath.Join(filepath.Dir(path), ".kitt-agentish")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	in := open(t, link)
	resolved, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	require.Equal(t, resolved, in.Path())
	requireOnly(t, in, "kitt-agent", ".kitt-agentish")
}

func TestOneUpdateAtATime(t *testing.T) {
	t.Parallel()
	path := installed(t, "echo one")
	in := open(t, path)
	_, err := selfupdate.Open(path)
	require.ErrorIs(t, err, selfupdate.ErrBusy)
	require.NoError(t, in.Close())
	again, err := selfupdate.Open(path)
	require.NoError(t, err)
	require.NoError(t, again.Close())
	require.NoError(t, again.Close(), "twice")
}

func TestStageLeavesNothingOnErrors(t *testing.T) {
	t.Parallel()
	in := open(t, installed(t, "echo one"))
	fault := errors.New("disk full")
	_, err := in.Stage(func(*os.File) error { return fault })
	require.ErrorIs(t, err, fault)
	requireOnly(t, in, "kitt-agent")
}

func TestProbe(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	tests := []struct{ name, text, want string }{
		{"good", `echo '{"version":"v1.2.0","os":"linux","arch":"amd64"}'`, ""},
		{"fails", "echo cannot >&2; exit 1", "exit status 1: \"cannot\""},
		{"says nothing", "exit 0", "does not say what it is"},
		{"says too much", "head -c 1000000 /dev/zero", "does not say what it is"},
		{"gets no secrets", `[ -z "$SECRET" ] && echo '{"version":"v1"}'`, ""},
		{"gets its question", `[ "$*" = "version --json" ] && echo '{"version":"v1"}'`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := open(t, installed(t, "true"))
			b, err := selfupdate.Probe(t.Context(), stage(t, in, tt.text))
			if tt.want != "" {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.NotEmpty(t, b.Version)
		})
	}
}
