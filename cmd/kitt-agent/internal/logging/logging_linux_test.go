package logging

import (
	"bytes"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	w := &forgivingWriter{w: full, complain: slog.New(slog.NewTextHandler(&out, nil))}
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&out, nil), slog.NewJSONHandler(w, nil)))
	log.Info("still said")
	require.Contains(t, out.String(), "still said")
	require.Contains(t, out.String(), "no space left")
}
