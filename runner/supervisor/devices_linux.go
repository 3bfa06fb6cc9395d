package supervisor

import (
	"os"
	"strconv"
	"strings"
)

// gpuDevices returns how many NVIDIA GPUs this process can see: the files
// /dev/nvidia0, /dev/nvidia1 and so on.
func gpuDevices() int {
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "nvidia"); ok {
			if _, err := strconv.ParseUint(number, 10, 16); err == nil {
				n++
			}
		}
	}
	return n
}
