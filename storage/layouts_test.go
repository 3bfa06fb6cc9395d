package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

// A Synology keeps deleted models and thumbnails on the share, others keep
// snapshots of it.
func TestAServersOwnDirectoriesHoldNoModels(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{
		"org/Live/weights":               "1",
		"org/Live/@eaDir/weights@SynoID": "thumbnail",
		"org/Live/.zfs/snapshot/x/y":     "2",
	})
	for _, dir := range []string{"#recycle/org", "@Recycle", "#snapshot/GMT-2026.11.01/org", "~snapshot/daily", "$RECYCLE.BIN/S-1-5", "System Volume Information", "lost+found"} {
		write(t, b.share, map[string]string{dir + "/Live/weights": "deleted", dir + "/Gone/weights": "deleted"})
	}
	path := b.get(t, "/elsewhere/Live")
	require.Equal(t, filepath.Join(b.dir, "org/Live"), path)
	require.Equal(t, []string{"weights"}, names(t, path))

	_, err := b.Acquire(t.Context(), storage.Request{Model: "/elsewhere/Gone", Holder: "job"})
	require.Equal(t, storage.ClassNotFound, classOf(err), err)
}

func TestWhatADownloadLeavesIsNotPartOfAModel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "org/Model"), map[string]string{
		"model.safetensors": "1", "sub/tokenizer.json": "{}", ".gitattributes": "x",
		".cache/huggingface/download/model.safetensors.metadata": "etag",
		".cache/huggingface/.gitignore":                          "*",
		"sub/old.bin.incomplete":                                 "half", "sub/model.lock": "", ".nfs000000000000a1b200000001": "deleted",
	})
	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "org/Model", Holder: "job", Log: &log})
	require.NoError(t, err)
	require.Equal(t, []string{".cache", ".gitattributes", "model.safetensors", "sub"}, names(t, lease.Path))
	require.Empty(t, names(t, filepath.Join(lease.Path, ".cache")))
	require.Equal(t, []string{"tokenizer.json"}, names(t, filepath.Join(lease.Path, "sub")))
	require.Contains(t, log.String(), `left out "org/Model/sub/old.bin.incomplete": not part of the model`)
}

// pointer is what git has in place of a large file until git-lfs fetches it.
const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4976698672\n"

// index is a model.safetensors.index.json that names shards.
func index(shards ...string) string {
	names := make([]string, len(shards))
	for i, s := range shards {
		names[i] = fmt.Sprintf("%q:%q", fmt.Sprint("tensor", i), s)
	}
	return `{"metadata":{"total_size":1},"weight_map":{` + strings.Join(names, ",") + `}}`
}

// incompleteModels are trees of which files are missing, and what the error names.
var incompleteModels = []struct {
	name  string
	files map[string]string
	named []string
}{
	{"pointers", map[string]string{"model.safetensors": pointer, "tokenizer.json": pointer, "config.json": "{}"},
		[]string{"git-lfs has not fetched 2 of its files", `"model.safetensors", "tokenizer.json"`, "git lfs pull"}},
	{"an index without a shard", map[string]string{"model.safetensors.index.json": index("model-1.safetensors", "model-2.safetensors"), "model-1.safetensors": "1"},
		[]string{"model.safetensors.index.json names files that are missing", `"model-2.safetensors"`}},
	{"an index without any shard", map[string]string{"sub/pytorch_model.bin.index.json": index("a.bin", "b.bin"), "config.json": "{}"},
		[]string{`"sub/a.bin", "sub/b.bin"`}},
	{"parts", map[string]string{"big-00001-of-00003.gguf": "1", "big-00003-of-00003.gguf": "3"},
		[]string{`"big-00002-of-00003.gguf"`, "download or copy the rest of it"}},
	{"many parts", map[string]string{"big-00001-of-000163.safetensors": "1"},
		[]string{`"big-00002-of-000163.safetensors"`, "and 157 more"}},
	{"a download in progress", map[string]string{"model-00001-of-00002.safetensors": "1", "model-00002-of-00002.safetensors.incomplete": "2"},
		[]string{`"model-00002-of-00002.safetensors"`}},
}

func TestAnIncompleteModelIsNotCopied(t *testing.T) {
	t.Parallel()
	for _, tt := range incompleteModels {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			write(t, filepath.Join(b.share, "org/Model"), tt.files)
			_, err := b.Acquire(t.Context(), storage.Request{Model: "org/Model", Holder: "job"})
			require.Equal(t, storage.ClassIncomplete, classOf(err), err)
			for _, text := range append(tt.named, "org/Model") {
				require.ErrorContains(t, err, text)
			}
			require.Empty(t, names(t, b.dir))
		})
	}
}

func TestACompleteModelMayHaveAnIndexOfAnotherFormat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "org/Model"), map[string]string{
		"model.safetensors.index.json":     index("model-00001-of-00001.safetensors"),
		"model-00001-of-00001.safetensors": "1",
		"pytorch_model.bin.index.json":     index("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
		"broken.index.json":                `{"weight_map":`,
		"README.md":                        strings.Repeat("about git-lfs ", 10),
	})
	require.Len(t, names(t, b.get(t, "org/Model")), 5)
}

func TestAWeightThatIsALinkToNothingIsMissing(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"outside": "../../blobs/none", "inside": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			model := filepath.Join(b.share, "m/snapshots/r")
			write(t, model, map[string]string{"config.json": "{}"})
			link(t, text, filepath.Join(model, "model.safetensors"))
			link(t, text, filepath.Join(model, "README.md"))
			_, err := b.Acquire(t.Context(), storage.Request{Model: "m/snapshots/r", Holder: "job"})
			require.Equal(t, storage.ClassIncomplete, classOf(err), err)
			require.ErrorContains(t, err, `"model.safetensors"`)
		})
	}
}

func TestAFileInPartsIsOneModel(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"org/GGUF/big-00001-of-00003.gguf": "one", "org/GGUF/big-00002-of-00003.gguf": "two", "org/GGUF/big-00003-of-00003.gguf": "three",
		"org/GGUF/small.gguf": "other", "org/GGUF/README.md": "x",
		"top-00001-of-00002.gguf": "1", "top-00002-of-00002.gguf": "2",
		"org/Vision/qwen.gguf": "weights", "org/Vision/mmproj-F16.gguf": "projector",
		"org/Shards/model-00001-of-00001.safetensors": "1", "org/Shards/config.json": "{}",
	}
	big := []string{"big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf"}
	for _, tt := range []struct {
		name, model, path string
		files             []string
	}{
		{"first part", "org/GGUF/big-00001-of-00003.gguf", "org/GGUF/big-00001-of-00003.gguf/big-00001-of-00003.gguf", big},
		{"another part", "SHARE/org/GGUF/big-00002-of-00003.gguf", "org/GGUF/big-00001-of-00003.gguf/big-00001-of-00003.gguf", big},
		{"by name", "/elsewhere/big-00003-of-00003.gguf", "org/GGUF/big-00001-of-00003.gguf/big-00001-of-00003.gguf", big},
		{"at the top", "top-00002-of-00002.gguf", "top-00001-of-00002.gguf/top-00001-of-00002.gguf", []string{"top-00001-of-00002.gguf", "top-00002-of-00002.gguf"}},
		{"with a projector", "org/Vision/qwen.gguf", "org/Vision/qwen.gguf/qwen.gguf", []string{"mmproj-F16.gguf", "qwen.gguf"}},
		{"alone", "org/GGUF/small.gguf", "org/GGUF/small.gguf", nil},
		{"a shard", "org/Shards/model-00001-of-00001.safetensors", "org/Shards", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			write(t, b.share, files)
			model := strings.ReplaceAll(tt.model, "SHARE", b.share)
			for _, origin := range []string{storage.OriginCopied, storage.OriginLocal} {
				lease, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job"})
				require.NoError(t, err)
				require.Equal(t, origin, lease.Origin)
				require.Equal(t, filepath.Join(b.dir, tt.path), lease.Path)
				var got []string
				for _, f := range lease.Files {
					require.Equal(t, filepath.Dir(lease.Path), filepath.Dir(f))
					require.FileExists(t, f)
					got = append(got, filepath.Base(f))
				}
				require.ElementsMatch(t, tt.files, got)
				if tt.files != nil {
					require.Equal(t, tt.files, names(t, filepath.Dir(lease.Path)), "and nothing else")
				}
			}
			// As a job does after a restart.
			copies, err := b.List(t.Context())
			require.NoError(t, err)
			require.Len(t, copies, 1)
			again, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(b.dir, tt.path), Holder: "job"})
			require.NoError(t, err)
			require.Equal(t, filepath.Join(b.dir, tt.path), again.Path)
			require.Len(t, again.Files, len(tt.files))
			require.NoError(t, again.Release())
			done, err := b.Evict(t.Context(), model)
			require.NoError(t, err)
			require.Len(t, done.Removed, 1)
			require.Empty(t, names(t, b.dir))
		})
	}
}

func TestAMissingPartIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{"m/big-00002-of-00003.gguf": "2", "m/big-00003-of-00003.gguf": "3"})
	_, err := b.Acquire(t.Context(), storage.Request{Model: "m/big-00002-of-00003.gguf", Holder: "job"})
	require.Equal(t, storage.ClassIncomplete, classOf(err), err)
	require.ErrorContains(t, err, `"big-00001-of-00003.gguf"`)
	require.Empty(t, names(t, b.dir))
}

// Hugging Face's cache on a share: the parts are links to blobs.
func TestPartsMayBeLinks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	snapshot := filepath.Join(b.share, "hub/models--o--m/snapshots/r")
	for i, name := range []string{"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"} {
		write(t, filepath.Join(b.share, "hub/models--o--m/blobs"), map[string]string{fmt.Sprint("blob", i): name})
		link(t, fmt.Sprint("../../blobs/blob", i), filepath.Join(snapshot, name))
	}
	path := b.get(t, filepath.Join(snapshot, "big-00002-of-00002.gguf"))
	require.Equal(t, "big-00001-of-00002.gguf", filepath.Base(path))
	for _, name := range []string{"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"} {
		info, err := os.Lstat(filepath.Join(filepath.Dir(path), name))
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular())
		data, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
		require.NoError(t, err)
		require.Equal(t, name, string(data))
	}
}

// An engine's own names have nothing to do with the share, whatever its state.
func TestAnEnginesNameIsNoErrorOnTheShare(t *testing.T) {
	t.Parallel()
	for model, share := range map[string]string{"qwen2.5:7b": "/absent/share", "hf.co/org/model:Q4_K_M": "/absent/share", "org/other": ""} {
		b := newBench(t, func(c *storage.Config) {
			if share != "" {
				c.ShareMount, c.ShareSource = share, "nas:/models"
			}
		})
		if share == "" {
			write(t, b.share, map[string]string{"org/Model/weights": "1"})
		}
		var log basetest.Buffer
		lease, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job", Log: &log})
		require.NoError(t, err)
		require.Equal(t, storage.OriginIdentifier, lease.Origin)
		require.Equal(t, model+" is not a path here; the engine fetches it\n", log.String())
	}
}
