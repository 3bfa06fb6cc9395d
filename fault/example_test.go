package fault_test

import (
	"fmt"

	"github.com/kirizan/kitt-agent/fault"
)

// A runner of a program's own says why a job failed and what to do about it. The
// agent reports all three.
func ExampleOf() {
	err := fmt.Errorf("run: %w", &fault.Error{
		Class: "license-missing", Text: "the benchmark's license has expired", Fix: "renew-license --now",
	})
	class, fix := fault.Of(err)
	fmt.Println(err)
	fmt.Println(class)
	fmt.Println(fix)
	// Output:
	// run: the benchmark's license has expired (renew-license --now)
	// license-missing
	// renew-license --now
}
