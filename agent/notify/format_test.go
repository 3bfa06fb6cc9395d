package notify_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/agent/notify"
)

var update = flag.Bool("update", false, "write the files in testdata")

// What each format sends for a failed job and for a problem.
func TestFormats(t *testing.T) {
	t.Parallel()
	for _, format := range notify.Formats() {
		synctest.Test(t, func(t *testing.T) {
			f, r := newFake(), &receiver{}
			f.log = []string{"loading <model> & co", "CUDA `out of memory`"}
			_, stop := run(t, f, r, t.TempDir(), func(cfg *notify.Config) { cfg.Format, cfg.Key = format, "key" })
			defer stop()
			f.end("1111222233334444", agent.StateFailed, true)
			f.set(health.New(health.Refused, "register: Invalid token"))
			time.Sleep(2 * time.Minute)
			stop()
			var got bytes.Buffer
			for i, body := range r.taken {
				require.NotEmpty(t, r.heads[i].Get("webhook-signature"))
				got.WriteString(r.heads[i].Get("Content-Type") + "\n")
				require.NoError(t, json.Indent(&got, body, "", "  "))
			}
			path := filepath.Join("testdata", string(format)+".txt")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}
