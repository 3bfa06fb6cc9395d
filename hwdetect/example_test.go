package hwdetect_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A simulated agent reports the hardware of a profile.
func Example() {
	spark, _ := hwdetect.Profile("dgx-spark")
	var detector hwdetect.Detector = hwdetect.Static{Machine: spark}

	m, err := detector.Detect(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.GPUs[0].Model, hwdetect.GiB(m.GPUs[0].MemoryBytes), "GiB, unified:", m.GPUs[0].Unified)
	fmt.Println(m.Fingerprint())
	// Output:
	// NVIDIA GB10 120 GiB, unified: true
	// NVIDIA-GB10-120GB_Cortex-X925-20c_120GB-DDR5_Samsung-SAMSUNG-MZALC4T0HBL1-00B07-NVME_CUDA-13.0_580.95.05_Linux-6.11.0-1016-nvidia
}

// A System describes the machine that the program runs on. Package
// hwdetect/nvml adds NVML to its sources.
func ExampleSystem() {
	system, err := hwdetect.New(hwdetect.Config{ModelDir: "/srv/models"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer system.Close()

	m, err := system.Detect(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.MemoryBytes > 0)
	for _, gap := range m.Gaps {
		_ = gap // what could not be found, and why
	}
	// Output: true
}
