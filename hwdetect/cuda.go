package hwdetect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// cudaVersionJSON returns the version in the text of a toolkit's version.json.
func cudaVersionJSON(text string) string {
	type component struct {
		Version string `json:"version"`
	}
	var doc struct {
		NVCC component `json:"cuda_nvcc"`
		CUDA component `json:"cuda"`
	}
	if json.Unmarshal([]byte(text), &doc) != nil {
		return ""
	}
	if v := majorMinor(doc.NVCC.Version); v != "" {
		return v
	}
	return majorMinor(doc.CUDA.Version)
}

// cudaVersionHeader returns the version in the text of cuda.h, which defines
// CUDA_VERSION as 1000*major + 10*minor.
func cudaVersionHeader(text string) string {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "#define" && f[1] == "CUDA_VERSION" {
			return CUDAVersion(int(number(f[2])))
		}
	}
	return ""
}

// CUDAVersion returns the version that NVML and cuda.h encode as
// 1000*major + 10*minor, such as 12.4 for 12040. It returns an empty string if n
// is not positive.
func CUDAVersion(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", n/1000, n%1000/10)
}

// majorMinor shortens 12.4.131 to 12.4.
func majorMinor(v string) string {
	parts := strings.SplitN(strings.TrimSpace(v), ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}
