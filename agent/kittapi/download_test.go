package kittapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

func emptyFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func contents(t *testing.T, f *os.File) []byte {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return data
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// random returns n bytes that differ from their neighbours.
func random(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 31 >> 3)
	}
	return data
}

func TestDownload(t *testing.T) {
	t.Parallel()
	data := random(300_000)
	server, err := kittapitest.NewServer(kittapitest.Config{BuildContext: data})
	require.NoError(t, err)
	defer server.Close()
	c, err := kittapi.New(kittapi.Config{URL: server.URL})
	require.NoError(t, err)
	var last, total int64
	a := kittapi.Artifact{
		Name: kittapi.ArtifactBuildContext, MaxBytes: 1 << 20,
		Progress: func(done, of int64) { last, total = done, of },
	}
	f := emptyFile(t)
	got, err := c.Download(t.Context(), a, f)
	require.NoError(t, err)
	require.Equal(t, kittapi.Downloaded{Bytes: 300_000, SHA256: sha(data), Name: "kitt-build-context.tar.gz"}, got)
	require.Equal(t, data, contents(t, f))
	require.Equal(t, []int64{300_000, 300_000}, []int64{last, total})
	digest, err := c.Digest(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, got.SHA256, digest)

	a.MaxBytes = 299_999
	_, err = c.Download(t.Context(), a, emptyFile(t))
	require.ErrorContains(t, err, "more than the limit of 299999")

	_, err = c.Download(t.Context(), kittapi.Artifact{Name: kittapi.ArtifactPackage, MaxBytes: 1}, emptyFile(t))
	require.ErrorIs(t, err, reporter.ErrServerFailed, "a server that can't build the package")
	require.ErrorContains(t, err, "Failed to build agent package")
}

// flaky serves a file that breaks off after each so many bytes.
type flaky struct {
	data     func() []byte
	after    int
	noRanges bool
	answers  atomic.Int64
	ranges   []string
}

func (s *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.answers.Add(1)
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	data := s.data()
	if !s.noRanges {
		w.Header().Set("ETag", fmt.Sprintf("%q", sha(data)[:16]))
	}
	http.ServeContent(&cutter{ResponseWriter: w, left: s.after}, r, "", time.Time{}, bytes.NewReader(data))
}

// cutter breaks the connection off after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		_, _ = c.ResponseWriter.Write(p[:len(p)+c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func TestDownloadGoesOnWhereItWasCut(t *testing.T) {
	t.Parallel()
	data := random(400_000)
	s := &flaky{data: func() []byte { return data }, after: 150_000}
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := kittapi.New(kittapi.Config{URL: server.URL})
	require.NoError(t, err)
	f := emptyFile(t)
	got, err := c.Download(t.Context(), kittapi.Artifact{Name: kittapi.ArtifactBuildContext, MaxBytes: 1 << 20}, f)
	require.NoError(t, err)
	require.Equal(t, sha(data), got.SHA256)
	require.Equal(t, data, contents(t, f))
	require.Equal(t, []string{"", "bytes=150000-", "bytes=300000-"}, s.ranges)
}

func TestDownloadBeginsAnewWhenTheFileChanged(t *testing.T) {
	t.Parallel()
	older, newer := random(200_000), random(90_000)
	s := &flaky{after: 150_000}
	s.data = func() []byte {
		if s.answers.Load() == 1 {
			return older
		}
		return newer
	}
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := kittapi.New(kittapi.Config{URL: server.URL})
	require.NoError(t, err)
	f := emptyFile(t)
	got, err := c.Download(t.Context(), kittapi.Artifact{Name: kittapi.ArtifactBuildContext, MaxBytes: 1 << 20}, f)
	require.NoError(t, err)
	require.Equal(t, sha(newer), got.SHA256)
	require.Equal(t, newer, contents(t, f))
}

func TestDownloadStandsStill(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	c, err := kittapi.New(kittapi.Config{URL: server.URL, Timeout: 20 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = c.Download(ctx, kittapi.Artifact{Name: kittapi.ArtifactBuildContext, MaxBytes: 10}, emptyFile(t))
	require.ErrorIs(t, err, context.DeadlineExceeded, "it tries again until it is told to stop")
}

func TestDigestOfAnOlderServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
		none   bool
	}{
		"no such route": {http.NotFound, "nothing is at this address", true},
		"no digest": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"not here"}`)
		}, "not here", true},
		"nonsense": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"sha256":"abc"}`) }, `"abc" is not a SHA-256`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.answer)
			defer server.Close()
			client, err := kittapi.New(kittapi.Config{URL: server.URL})
			require.NoError(t, err)
			_, err = client.Digest(t.Context(), kittapi.Artifact{Name: kittapi.ArtifactBuildContext})
			require.ErrorContains(t, err, c.want)
			if c.none {
				require.ErrorIs(t, err, kittapi.ErrNoDigest)
			}
		})
	}
}
