package runnertest_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func ExampleFake() {
	fake := &runnertest.Fake{Lines: []string{"loading", "done"}, Err: &runner.ExitError{Code: 3}}
	var out runnertest.Recorder
	_, err := fake.Run(context.Background(), runner.Job{ID: "a"}, &out)
	fmt.Print(out.Text())
	fmt.Println(err, len(fake.Jobs()))
	// Output:
	// loading
	// done
	// Exit 3 1
}
