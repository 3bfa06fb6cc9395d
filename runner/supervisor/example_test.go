//go:build unix

package supervisor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A runner follows the files that a supervisor has written.
func ExampleFollower() {
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(run)
	// As the supervisor does it:
	for name, text := range map[string]string{"output": "Loading model\n", "exit.json": `{"version":1,"code":3}`} {
		if err := os.WriteFile(filepath.Join(run, name), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}

	dir, err := supervisor.OpenDir(run)
	if err != nil {
		panic(err)
	}
	defer dir.Close()
	gone := func() (bool, error) {
		held, err := dir.Held()
		return !held, err
	}
	f := supervisor.NewFollower(dir, runner.NewOutput(os.Stdout), 0, gone)
	defer f.Close()
	if err := f.Pump(context.Background(), time.Time{}); err != nil {
		panic(err)
	}
	end, _, err := dir.Exit()
	if err != nil {
		panic(err)
	}
	fmt.Println(end.Err())
	// Output:
	// Loading model
	// Exit 3
}
