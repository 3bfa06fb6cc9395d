package socketproxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
	"github.com/stretchr/testify/require"
)

// write makes files, links (a text that begins with "->") and their directories.
func write(t *testing.T, dir string, files map[string]string) {
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if len(text) > 2 && text[:2] == "->" {
			require.NoError(t, os.Symlink(text[2:], path))
		} else {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		}
	}
}

func mountMap(mounts []mount.Mount) map[string]string {
	all := map[string]string{}
	for _, m := range mounts {
		all[m.Target] = m.Source
		if !m.ReadOnly {
			all[m.Target] += " (writable)"
		}
	}
	return all
}

// TestLinksOutOfAModel mounts a model as the cache of a hub has it: a directory of links
// to files next to it.
func TestLinksOutOfAModel(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	write(t, root, map[string]string{
		"hub/blobs/1": "one", "hub/blobs/2": "two", "hub/snap/config.json": "->../blobs/1",
		"hub/snap/sub/weights": "->../../blobs/2",
		"hub/snap/same":        "->../blobs/2",
		"hub/snap/inside":      "->config.json",
		"hub/snap/up":          "->..",
		"hub/snap/dangling":    "->../blobs/3",
		"hub/snap/secret":      "->" + root + "/other/key",
		"hub/snap/passwd":      "->/etc/passwd",
		"hub/snap/absolute":    "->" + root + "/hub/blobs/1",
		"hub/snap/more":        "->" + root + "/hub/more",
		"hub/snap/chain":       "->" + root + "/hub/chain",
		"hub/chain":            "->" + root + "/other/key",
		"hub/more/deep":        "->../blobs/1",
		"hub/snap/own":         "->" + root + "/hub/snap/sub",
		"other/key":            "secret",
	})
	hub, model := filepath.Join(root, "hub"), filepath.Join(root, "hub/snap")
	p := Policy{Model: model, LinkDirs: []string{hub}}
	mounts, err := p.mount(bind{source: model, target: "/models/m"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"/models/m":       model,
		"/models/blobs/1": hub + "/blobs/1",
		"/models/blobs/2": hub + "/blobs/2",
		hub + "/blobs/1":  hub + "/blobs/1",
		hub + "/blobs/2":  hub + "/blobs/2", // linked from sub at its own path
		hub + "/more":     hub + "/more",
		model + "/sub":    model + "/sub",
	}, mountMap(mounts), "an absolute link needs its own path; what is in no directory of the policy stays away")

	p.LinkDirs = nil
	mounts, err = p.mount(bind{source: model, target: model})
	require.NoError(t, err)
	require.Equal(t, map[string]string{model: model}, mountMap(mounts))
	mounts, err = p.mount(bind{source: model + "/sub", target: "/x"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"/x": model + "/sub"}, mountMap(mounts))
}

// TestModelOfFiles has kitt mount the files' directory, of which a container gets what
// the model is.
func TestModelOfFiles(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	write(t, root, map[string]string{"1.gguf": "1", "2.gguf": "2", "id_rsa": "secret", "link.gguf": "->id_rsa", "sub/3.gguf": "3"})
	for want, files := range map[string][]string{"1.gguf": nil, "1.gguf 2.gguf": {"1.gguf", "2.gguf"}} {
		p := Policy{Model: root + "/1.gguf"}
		for _, name := range files {
			p.Files = append(p.Files, root+"/"+name)
		}
		mounts, err := p.mount(bind{source: root, target: "/models"})
		require.NoError(t, err)
		expected := map[string]string{}
		for name := range strings.FieldsSeq(want) {
			expected["/models/"+name] = root + "/" + name
		}
		require.Equal(t, expected, mountMap(mounts))
		for _, source := range []string{root + "/id_rsa", root + "/link.gguf", root + "/sub", "/"} {
			_, err = p.mount(bind{source: source, target: "/models"})
			require.Error(t, err, source)
		}
	}
	for _, bad := range []string{root + "/link.gguf", root + "/sub/3.gguf", root + "/none"} {
		p := Policy{Model: root + "/1.gguf", Files: []string{root + "/1.gguf", bad}}
		_, err = p.mount(bind{source: root, target: "/models"})
		require.ErrorContains(t, err, "may not mount", bad)
	}
}

// TestWritableMounts has directories that the benchmark may write to.
func TestWritableMounts(t *testing.T) {
	t.Parallel()
	p := Policy{Results: "/job/results", Caches: []string{"/cache/hf"}}
	for source, want := range map[string]string{"/job/results": "/job/results (writable)", "/cache/hf/": "/cache/hf (writable)"} {
		mounts, err := p.mount(bind{source: source, target: "/x"})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"/x": want}, mountMap(mounts))
	}
	mounts, err := p.mount(bind{source: "/cache/hf", target: "/x", readOnly: true})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"/x": "/cache/hf"}, mountMap(mounts))
	_, err = p.mount(bind{source: "/cache", target: "/x"})
	require.ErrorContains(t, err, "policy.caches")
}
