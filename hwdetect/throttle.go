package hwdetect

import (
	"math/bits"
	"slices"
	"strconv"
)

// gpuIdle is the bit of nvmlClocksEventReasons that says that the GPU has nothing
// to do, which is not throttling.
const gpuIdle = 0x1

// throttleNames are nvidia-smi's names of the bits of nvmlClocksEventReasons, from
// nvml.h.
var throttleNames = [64]string{
	1:  "applications_clocks_setting",
	2:  "sw_power_cap",
	3:  "hw_slowdown",
	4:  "sync_boost",
	5:  "sw_thermal_slowdown",
	6:  "hw_thermal_slowdown",
	7:  "hw_power_brake_slowdown",
	8:  "display_clocks_setting",
	9:  "board_limit",
	10: "reliability",
}

// ThrottleReasons returns nvidia-smi's names of the bits of
// nvmlClocksEventReasons, without gpu_idle. A bit without a name is its value in
// hexadecimal, such as 0x800. The result is never nil.
func ThrottleReasons(reasons uint64) []string {
	names := []string{}
	for reasons &^= gpuIdle; reasons != 0; reasons &= reasons - 1 {
		i := bits.TrailingZeros64(reasons)
		name := throttleNames[i]
		if name == "" {
			name = "0x" + strconv.FormatUint(1<<i, 16)
		}
		names = append(names, name)
	}
	return names
}

// ThrottleBits is the inverse of [ThrottleReasons]. It ignores names that it does
// not know.
func ThrottleBits(names []string) uint64 {
	var reasons uint64
	for _, name := range names {
		if i := slices.Index(throttleNames[:], name); i >= 0 && name != "" {
			reasons |= 1 << i
		} else if v, err := strconv.ParseUint(name, 0, 64); err == nil {
			reasons |= v
		}
	}
	return reasons &^ gpuIdle
}
