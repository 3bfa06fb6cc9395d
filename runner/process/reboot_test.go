package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestRebootOfTheMachine has runs from before the machine's last start: one that the
// loss of power ended, and one that the shutdown ended.
func TestRebootOfTheMachine(t *testing.T) {
	t.Parallel()
	for _, exit := range []string{"", `{"version":1,"code":143,"signal":"SIGTERM"}`, `{"version":1,"code":3}`} {
		job := newJob(t, "m")
		dir := filepath.Join(job.Dir, "process")
		require.NoError(t, os.Mkdir(dir, 0o700))
		// Its PIDs are those of other processes now.
		claim := fmt.Sprintf(`{"version":1,"boot":"another","supervisor":{"pid":%d,"start":1},"child":{"pid":%d,"start":1}}`, os.Getpid(), os.Getpid())
		for name, text := range map[string]string{
			"spec.json": `{"version":1,"job":"job-1","supervised":true}`, "started.json": claim, "exit.json": exit, "output": "line 0\n", "lock": "",
		} {
			if text != "" || name == "lock" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			}
		}
		var out runnertest.Recorder
		_, err := supervised(t).Resume(t.Context(), job, 0, &out)
		require.Equal(t, "line 0\n", out.Text())
		var ended *runner.ExitError
		switch exit {
		case "":
			require.ErrorIs(t, err, runner.ErrLost)
			require.ErrorContains(t, err, "the machine was restarted while it ran")
		case `{"version":1,"code":3}`:
			require.EqualError(t, err, "Exit 3")
		default:
			require.ErrorAs(t, err, &ended)
			require.Contains(t, ended.Detail, "the machine was shut down or restarted")
		}
	}
}
