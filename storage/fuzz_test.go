package storage

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// FuzzPaths makes links that the fuzzer chooses below a root and looks for a way
// out of it.
func FuzzPaths(f *testing.F) {
	f.Add("a/b", "../..", "/etc", "a/b/c")
	f.Add("..", "b", ".", "x/../../y")
	f.Add("~/x", "ROOT/a", "ROOT/../out", "a//./b/")
	f.Add("/ROOT", "../ROOTx", "a", "a/a/a/a")
	f.Fuzz(func(t *testing.T, model, one, two, rel string) {
		top, err := filepath.EvalSymlinks(t.TempDir())
		require.NoError(t, err)
		dir := filepath.Join(top, "root")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(top, "out/b"), 0o755))
		atRoot := strings.NewReplacer("ROOT", dir)
		_ = os.Symlink(atRoot.Replace(one), filepath.Join(dir, "one")) // some texts cannot be links
		_ = os.Symlink(atRoot.Replace(two), filepath.Join(dir, "a/two"))
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer func() { require.NoError(t, root.Close()) }()

		check := func(rel string) {
			at, err := beneath.Resolve(root, []string{dir}, rel)
			if err != nil {
				return
			}
			require.True(t, at == "." || beneath.IsClean(at), at)
			real, err := filepath.EvalSymlinks(filepath.Join(dir, at))
			require.NoError(t, err)
			require.Equal(t, filepath.Join(dir, at), real, "links are left in %q", at)
		}
		for _, p := range []string{rel, "one/" + rel, "a/two/" + rel, "one", "a/two"} {
			check(p)
		}
		name, err := parseModel(atRoot.Replace(model), "/home/agent")
		if err != nil {
			return
		}
		paths, _ := name.candidates(filepath.Join(top, "dir"), dir, false)
		for _, p := range paths {
			require.True(t, beneath.IsClean(p), "%q", p)
			check(p)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"path":"a/b","piece":65536}` + "\n" + `{"p":"x","k":1,"s":3}` + "\n"))
	f.Add([]byte(`{"version":1,"path":"../a","piece":65536}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(bytes.NewReader(data), func(it item) error {
			require.True(t, it.Path == "." || beneath.IsClean(it.Path))
			return nil
		})
		if err == nil {
			require.True(t, beneath.IsClean(m.Path))
			require.False(t, reserved(m.Path))
		}
	})
}

func FuzzRawText(f *testing.F) {
	f.Add("team/m")
	f.Add("a\nb\xff\xfe \u202e")
	f.Fuzz(func(t *testing.T, text string) {
		data, err := json.Marshal(rawText(text))
		require.NoError(t, err)
		var back rawText
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, rawText(text), back)
	})
}

func FuzzClaim(f *testing.F) {
	f.Add([]byte(`{"path":"team/m","left":1}`))
	f.Add([]byte(`{"path":["Lg=="]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, ok := parseClaim(data); ok {
			require.True(t, beneath.IsClean(c.rel()))
			require.False(t, reserved(c.rel()))
		}
	})
}

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /a /mnt\\040b rw,noatime master:1 - nfs4 nas:/x rw\n")
	f.Add("1 2 3 / \\1 - x\n - \n\\400 \\04")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			require.NotEmpty(t, m.kind)
			require.LessOrEqual(t, len(m.path), len(text))
			require.True(t, m.holds(m.path))
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add([]byte(`{"owner":"a","holder":"job","path":"team/m","since":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"path":["Lg=="],"pid":-1}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(dir, "0123."+t.Name())
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, data, 0o600))
		if l, ok := readLease(name); ok {
			again, err := json.Marshal(l)
			require.NoError(t, err)
			require.NotEmpty(t, again)
		}
		all, err := leaseStore{dir: dir}.all()
		require.NoError(t, err)
		for _, l := range all {
			require.True(t, l.Path == "" || beneath.IsClean(string(l.Path)))
		}
	})
}
