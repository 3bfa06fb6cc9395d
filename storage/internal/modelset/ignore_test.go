package modelset_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

func TestIgnored(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{
		"#recycle", "sub/@eaDir", "#snapshot", ".snapshot", ".zfs", "~snapshot", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information",
		"lost+found", "@Recycle", ".Trash-1000", ".cache/huggingface", "sub/.cache/huggingface",
		"model.safetensors.incomplete", "sub/a.lock", ".nfs0000000000a1b2c300000001",
	} {
		require.True(t, modelset.Ignored(rel), rel)
	}
	for _, rel := range []string{
		"model.safetensors", "snapshot", "recycle", ".cache", "huggingface", ".cache/other", "locked", "incomplete", "nfs1", "lost",
		".gitattributes", "tokenizer.json",
	} {
		require.False(t, modelset.Ignored(rel), rel)
	}
}
