package process_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/process"
)

func TestWhichVariablesArePassedOn(t *testing.T) {
	t.Parallel()
	env, withheld := process.Environment([]string{
		"PATH=/bin", "HOME=/root", "LC_ALL=C", "CUDA_VISIBLE_DEVICES=0", "HF_HOME=/hf", "HF_HUB_OFFLINE=1", "https_proxy=http://p", "NO_PROXY=a=b",
		"HF_TOKEN=x", "HF_HUB_TOKEN=x", "AWS_SECRET_ACCESS_KEY=x", "KITT_TOKEN=x", "NOTIFY_SOCKET=x", "PATHS=x", "LD_PRELOAD=x", "=odd", "bare",
	})
	require.Equal(t, []string{
		"PATH=/bin", "HOME=/root", "LC_ALL=C", "CUDA_VISIBLE_DEVICES=0", "HF_HOME=/hf", "HF_HUB_OFFLINE=1", "https_proxy=http://p", "NO_PROXY=a=b",
	}, env)
	require.Equal(t, []string{
		"HF_TOKEN", "HF_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "KITT_TOKEN", "NOTIFY_SOCKET", "PATHS", "LD_PRELOAD", "", "bare",
	}, withheld)
}
