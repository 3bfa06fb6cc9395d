package certs

import (
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	first, second := ca.newPair(t, "first", time.Now()), ca.newPair(t, "second", time.Now())
	files := ca.write(t, first)
	for _, path := range []string{files.Cert, files.Key} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.NoError(t, Replace(files, second))
	got, err := Load(files)
	require.NoError(t, err)
	require.True(t, got.Leaf().Equal(second.Leaf()))
	require.NoFileExists(t, next(files.Cert))
	require.NoFileExists(t, next(files.Key))

	require.ErrorIs(t, Replace(files, &Pair{Chain: first.Chain, Key: second.Key}), errMismatch, "a pair that isn't one is never written")

	// What a link points to is replaced, and one file may hold both.
	dir := t.TempDir()
	both := filepath.Join(dir, "both.pem")
	link := filepath.Join(dir, "link.pem")
	require.NoError(t, os.Symlink(both, link))
	require.NoError(t, WriteFile(both, nil))
	require.NoError(t, Replace(Files{Cert: link, Key: link}, first))
	got, err = Load(Files{Cert: both, Key: both})
	require.NoError(t, err)
	require.True(t, got.Leaf().Equal(first.Leaf()))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
}

func TestLoadSaysWhatToDo(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	files := ca.write(t, ca.newPair(t, "x", time.Now()))
	other := ca.write(t, ca.newPair(t, "y", time.Now()))
	_, err := Load(Files{Cert: files.Cert, Key: other.Key})
	require.ErrorContains(t, err, "the key does not belong to the certificate in "+files.Cert)
	_, err = Load(Files{Cert: files.Cert, Key: filepath.Join(t.TempDir(), "none.pem")})
	require.ErrorContains(t, err, "kitt-agent certs renew")
	_, err = Load(Files{Cert: files.Key, Key: files.Key})
	require.ErrorContains(t, err, "holds no certificate")
	_, err = Load(Files{Cert: t.TempDir(), Key: files.Key})
	require.ErrorContains(t, err, "not a plain file")
	require.NoError(t, os.WriteFile(files.Cert, make([]byte, maxFile+1), 0o600))
	_, err = Load(files)
	require.ErrorContains(t, err, "longer than")
}

// TestHalfAReplacement is the state between the two renames: a reader that has
// nothing in memory finds a pair that doesn't match, until Recover was there.
func TestHalfAReplacement(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	first, second := ca.newPair(t, "first", time.Now()), ca.newPair(t, "second", time.Now())
	files := ca.write(t, first)
	text, err := encodeKey(second.Key)
	require.NoError(t, err)
	require.NoError(t, WriteFile(files.Key, text))
	require.NoError(t, Recover(files), "nothing to recover it with")
	_, err = Load(files)
	require.ErrorIs(t, err, errMismatch)

	require.NoError(t, WriteFile(next(files.Cert), EncodeCertificates(second.Leaf())))
	require.NoError(t, Recover(files))
	got, err := Load(files)
	require.NoError(t, err)
	require.True(t, got.Leaf().Equal(second.Leaf()))

	// The state before the first rename is left alone.
	require.NoError(t, WriteFile(next(files.Cert), EncodeCertificates(first.Leaf())))
	require.NoError(t, Recover(files))
	got, err = Load(files)
	require.NoError(t, err)
	require.True(t, got.Leaf().Equal(second.Leaf()))
	require.NoError(t, Recover(Files{Cert: "/nonexistent/a", Key: "/nonexistent/b"}))
}

// replaceForEver replaces the pair in dir with one of two.
func replaceForEver(dir string) error {
	ca, err := LoadAuthority(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), time.Now())
	if err != nil {
		return err
	}
	var pairs []*Pair
	for range 2 {
		p, err := ca.NewPair(ThisMachine("x"), time.Now())
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	files := Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem")}
	for n := 0; ; n++ {
		if err := Replace(files, pairs[n%2]); err != nil {
			return err
		}
		if n == 0 {
			_, _ = os.Stdout.WriteString("ready\n")
		}
	}
}

// TestKilledWhileReplacing kills processes that do nothing but replace a pair:
// after each there is one that can be used.
func TestKilledWhileReplacing(t *testing.T) {
	t.Parallel()
	_, dir := newAuthority(t, nil)
	files := Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem")}
	halfway := 0
	for range 30 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), replaceEnv+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		require.NoError(t, err)
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // a random moment is the test
		require.NoError(t, child.Process.Kill())
		_ = child.Wait()
		if _, err := Load(files); err != nil {
			halfway++
		}
		require.NoError(t, Recover(files))
		_, err = Load(files)
		require.NoError(t, err)
	}
	t.Logf("%d of 30 were killed between the two renames", halfway)
}
