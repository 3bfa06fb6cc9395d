package nvmltest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect/nvml/nvmltest"
)

func Example() {
	script := &nvmltest.Script{}
	script.Set(0, nvmltest.All, "gpus", 2)
	script.Grow(5*time.Second, 1, "field.270", 0, 1e9) // throttled all the time, in ns
	fmt.Print(script.Text(time.UnixMilli(1000)))
	// Output:
	// epoch 1000
	// 0 -1 gpus 2 0
	// 5000 1 field.270 0 1000000000
}

func TestScriptsAreWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "script")
	require.ErrorContains(t, (&nvmltest.Script{}).Write(path, time.Now()), "empty")
	require.NoError(t, nvmltest.Healthy(8, time.Second).Write(path, time.UnixMilli(7)))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "epoch 7\n0 -1 gpus 8 0\n")
}
