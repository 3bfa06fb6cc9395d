package nvml_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/nvml"
)

// A System that asks NVML first. The same code serves machines without a GPU and
// builds without NVML.
func Example() {
	source := nvml.New(nvml.Config{})
	defer source.Close()
	system, err := hwdetect.New(hwdetect.Config{Sources: []hwdetect.Source{source}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer system.Close()

	m, err := system.Detect(context.Background())
	fmt.Println(err, m.CPU.Threads > 0)
	// Output: <nil> true
}
