package logstream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/logstream"
)

const token = `hf_"Qk7z/+secret`

func TestRedactedValue(t *testing.T) {
	t.Parallel()
	r := logstream.NewRedactor([]string{token, "abc"})
	value := map[string]any{
		"command": []any{"kitt", "--token=" + token, 1.5, nil, true},
		"env":     map[string]any{"HF_TOKEN": token, token: "x"},
		"short":   "abc",
	}
	got := r.Value(value)
	require.Equal(t, map[string]any{
		"command": []any{"kitt", "--token=[redacted]", 1.5, nil, true},
		"env":     map[string]any{"HF_TOKEN": "[redacted]", "[redacted]": "x"},
		"short":   "abc",
	}, got)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "Qk7z")
	require.Equal(t, "no secrets", logstream.Redactor{}.Value("no secrets"))
}

func TestRedactedLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := logstream.NewRedactor([]string{token})
	log := slog.New(r.Handler(slog.NewTextHandler(&out, nil)))
	log = log.With("url", "https://x/?t="+token).WithGroup("g").With("n", 1)
	log.Error("failed with "+token, "err", fmt.Errorf("denied: %w", errors.New(token)),
		slog.Group("in", "text", token), "args", []string{token}, "count", 7)
	require.NotContains(t, out.String(), "Qk7z")
	require.Contains(t, out.String(), `msg="failed with [redacted]"`)
	require.Contains(t, out.String(), `err="denied: [redacted]"`)
	require.Contains(t, out.String(), "g.count=7")
	require.Equal(t, 5, bytes.Count(out.Bytes(), []byte("[redacted]")))
}
