package storage_test

import (
	"path/filepath"
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
