package docker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A registry has one image. Half of its layer comes at once, the rest when it is let go.
type registry struct {
	blobs   map[string][]byte // by digest
	layer   string
	asked   chan struct{} // closed once the layer was asked for
	letGo   chan struct{} // closed by release
	release func()
	once    sync.Once
	content []byte // of the manifest
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// newRegistry serves an image with one file and returns its name.
func newRegistry(t *testing.T, path string, data []byte) (r *registry, name string) {
	var layer, zipped bytes.Buffer
	w := tar.NewWriter(&layer)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(data))}))
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(layer.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	config, err := json.Marshal(map[string]any{
		"architecture": engine.Arch, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.Bytes())}},
	})
	require.NoError(t, err)
	const docker = "application/vnd.docker."
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": docker + "container.image.v1+json", "size": len(config), "digest": digest(config)},
		"layers": []any{map[string]any{"mediaType": docker + "image.rootfs.diff.tar.gzip", "size": zipped.Len(), "digest": digest(zipped.Bytes())}},
	})
	require.NoError(t, err)
	r = &registry{
		blobs: map[string][]byte{digest(config): config, digest(zipped.Bytes()): zipped.Bytes()}, layer: digest(zipped.Bytes()),
		asked: make(chan struct{}), letGo: make(chan struct{}), content: manifest,
	}
	r.release = sync.OnceFunc(func() { close(r.letGo) })
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Cleanup(r.release)
	name = server.Listener.Addr().String() + "/engine:1"
	t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), name)) })
	return r, name
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	_, last, _ := strings.Cut(q.URL.Path, "/engine/")
	kind, of, _ := strings.Cut(last, "/")
	switch {
	case kind == "manifests":
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		w.Header().Set("Docker-Content-Digest", digest(r.content))
		_, _ = w.Write(r.content)
	case kind == "blobs" && r.blobs[of] != nil:
		data := r.blobs[of]
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		if of == r.layer {
			_, _ = w.Write(data[:len(data)/2])
			_ = http.NewResponseController(w).Flush()
			data = data[len(data)/2:]
			r.once.Do(func() { close(r.asked) })
			<-r.letGo
		}
		_, _ = w.Write(data)
	}
}
