package supervisor

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// gpusUnknown is the number of GPUs where no file in /dev tells it: under WSL 2 all are
// behind /dev/dxg, and on Tegra behind files of other names.
const gpusUnknown = -1

// gpuDevices returns how many NVIDIA GPUs a process with this /dev can see: its files
// nvidia0, nvidia1 and so on. MIG instances show the file of their GPU.
func gpuDevices(dev fs.FS) int {
	entries, err := fs.ReadDir(dev, ".")
	if err != nil {
		return gpusUnknown
	}
	n, hidden := 0, false
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "nvidia"); ok {
			if _, err := strconv.ParseUint(number, 10, 16); err == nil {
				n++
			}
		}
		hidden = hidden || e.Name() == "dxg" || e.Name() == "nvmap" || strings.HasPrefix(e.Name(), "nvhost-")
	}
	if n == 0 && hidden {
		return gpusUnknown
	}
	return n
}

// checkGPUs returns e with why a run that sees e.Devices GPUs must not begin, if it
// mustn't.
func (cfg Config) checkGPUs(e Exit) Exit {
	switch {
	case cfg.GPUs <= 0 || e.Devices < 0:
	case e.Devices < cfg.GPUs:
		e.Fault, e.Error = FaultFewGPUs, fmt.Sprintf("it sees %d GPUs and was to have %d", e.Devices, cfg.GPUs)
	case cfg.GPUsOnly && e.Devices > cfg.GPUs:
		e.Fault, e.Error = FaultManyGPUs, fmt.Sprintf("it sees %d GPUs and was to have %d, and the others may be another job's", e.Devices, cfg.GPUs)
	}
	return e
}
