package native_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/engine/native"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// entry is a file of an archive, or a link.
type entry struct {
	name, text, link string
	kind             byte
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o4755, Size: int64(len(e.text)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if e.kind != 0 {
			h.Typeflag = e.kind
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.text)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return buf.Bytes()
}

func zipOf(t testing.TB, name, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: name}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	require.NoError(t, err)
	_, err = io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return buf.Bytes()
}

func sum(text []byte) string {
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:])
}

const script = "#!/bin/sh\necho version: 7000\n"

func TestInstall(t *testing.T) {
	t.Parallel()
	packages := map[string][]byte{
		"/b7000.tar.gz": tarOf(t, entry{name: "llama-b7000/llama-server", text: script}, entry{name: "llama-b7000/libllama.so.0", text: "x"}, entry{name: "llama-b7000/libllama.so", link: "libllama.so.0"}),
		"/b7001.zip":    zipOf(t, "build/bin/llama-server", "#!/bin/sh\necho version: 7001\n"),
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(packages[r.URL.Path]) }))
	defer srv.Close()
	dir := t.TempDir()
	for version, name := range map[string]string{"b7000": "/b7000.tar.gz", "b7001": "/b7001.zip"} {
		cfg := config(dir, t.TempDir())
		cfg.Transport = srv.Client().Transport
		cfg.Packages = map[string]native.Package{"llama_cpp": {Version: version, URL: srv.URL + name, SHA256: sum(packages[name])}}
		m, err := native.Open(cfg)
		require.NoError(t, err)
		var out runnertest.Recorder
		for range 2 { // a second time changes nothing
			require.NoError(t, m.Install(t.Context(), "llama_cpp", &out))
			s := llamaState(t, m)
			require.True(t, s.Installed)
			require.Equal(t, version[1:], s.Version)
		}
		require.Contains(t, out.Messages(), "llama_cpp "+version+" is installed in "+dir)
		require.NoError(t, m.Close())
	}
	left, err := os.ReadDir(filepath.Join(dir, "llama_cpp", "versions"))
	require.NoError(t, err)
	require.Len(t, left, 2)
}

func TestInstallsThatFail(t *testing.T) {
	t.Parallel()
	good := tarOf(t, entry{name: "llama-server", text: script})
	for name, tt := range map[string]struct {
		data []byte
		sum  string
		want string
	}{
		"another digest":   {data: good, sum: sum([]byte("x")), want: "its SHA-256 is " + sum(good)},
		"no archive":       {data: []byte("x"), want: "unpack "},
		"cut off":          {data: good[:len(good)-20], want: "unpack "},
		"no such program":  {data: tarOf(t, entry{name: "README", text: "x"}), want: "the package holds no program llama-server"},
		"a path outside":   {data: tarOf(t, entry{name: "../../evil", text: "x"}), want: "lies outside"},
		"an absolute path": {data: tarOf(t, entry{name: "/etc/evil", text: "x"}), want: "lies outside"},
		"a link outside":   {data: tarOf(t, entry{name: "a", link: "../../.."}), want: "the link a leads outside"},
		"through a link":   {data: tarOf(t, entry{name: "a", link: "."}, entry{name: "a/a/llama-server", text: "x"}, entry{name: "llama-server", text: "y"}), want: "exist"},
		"a hard link":      {data: tarOf(t, entry{name: "a", link: "b", kind: tar.TypeLink}), want: "is a hard link"},
		"a device":         {data: tarOf(t, entry{name: "a", kind: tar.TypeBlock}), want: "is neither a file, a directory nor a link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(t.TempDir(), "p.tar.gz")
			require.NoError(t, os.WriteFile(file, tt.data, 0o600))
			if tt.sum == "" {
				tt.sum = sum(tt.data)
			}
			cfg := config(dir, t.TempDir())
			cfg.Packages = map[string]native.Package{"llama_cpp": {Version: "b1", URL: file, SHA256: tt.sum}}
			m := open(t, cfg)
			require.ErrorContains(t, m.Install(t.Context(), "llama_cpp", &runnertest.Recorder{}), tt.want)
			require.False(t, llamaState(t, m).Installed)
			left, err := os.ReadDir(filepath.Join(dir, "llama_cpp", "versions"))
			require.NoError(t, err)
			require.Empty(t, left, "nothing half installed")
		})
	}
}

func TestAnInstallThatIsCancelled(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
		w.(http.Flusher).Flush()
		close(began)
		<-r.Context().Done()
	}))
	defer srv.Close()
	dir := t.TempDir()
	cfg := config(dir, t.TempDir())
	cfg.Transport = srv.Client().Transport
	cfg.Packages = map[string]native.Package{"ollama": {Version: "1", URL: srv.URL + "/o.tgz", SHA256: sum(nil)}}
	m := open(t, cfg)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-began; cancel(cause) }()
	require.ErrorIs(t, m.Install(ctx, "ollama", &runnertest.Recorder{}), cause)
	left, err := os.ReadDir(filepath.Join(dir, "ollama", "versions"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestWhatMayNotBeInstalled(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), t.TempDir()))
	require.ErrorContains(t, m.Install(t.Context(), "llama_cpp", &runnertest.Recorder{}), "there is no package of llama_cpp that may be installed (add engines.packages.llama_cpp")
	digest := sum(nil)
	for want, p := range map[string]native.Package{
		"is not a word":             {Version: "../x", URL: "https://h/a.zip", SHA256: digest},
		"hexadecimal":               {Version: "1", URL: "https://h/a.zip", SHA256: "x"},
		"does not end in":           {Version: "1", URL: "https://h/install.sh", SHA256: digest},
		"is neither https":          {Version: "1", URL: "http://h/a.zip", SHA256: digest},
		"neither https without a p": {Version: "1", URL: "https://u:p@h/a.zip", SHA256: digest},
	} {
		require.ErrorContains(t, p.Check(), want)
	}
	require.NoError(t, native.Package{Version: "b7000", URL: "https://h/a.zip", SHA256: digest}.Check())
}
