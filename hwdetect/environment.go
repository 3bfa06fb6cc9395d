package hwdetect

import (
	"errors"
	"io/fs"
	"strings"
)

// environmentType returns KITT's name for this kind of system.
func environmentType(root fs.FS) string {
	if release, err := readFile(root, "etc/dgx-release"); err == nil || !errors.Is(err, fs.ErrNotExist) {
		if strings.Contains(strings.ToLower(release), "spark") {
			return "dgx_spark"
		}
		return "dgx"
	}
	if exists(root, "etc/nvidia/nvidia-dgs.conf") {
		return "dgx_spark"
	}
	version := strings.ToLower(readLine(root, "proc/version"))
	if strings.Contains(version, "microsoft") || strings.Contains(version, "wsl") {
		return "wsl2"
	}
	if exists(root, ".dockerenv") {
		return "docker"
	}
	cgroup := readLine(root, "proc/1/cgroup")
	if strings.Contains(cgroup, "docker") || strings.Contains(cgroup, "lxc") {
		return "container"
	}
	return "native_linux"
}

// cudaToolkit returns the version of the installed CUDA toolkit as nvcc prints
// it, such as 12.4. It reads the toolkit's files and doesn't run nvcc.
func cudaToolkit(root fs.FS) (string, error) {
	for _, dir := range []string{"usr/local/cuda", "opt/cuda", "usr/lib/cuda", "usr/lib/nvidia-cuda-toolkit"} {
		if text, err := readFile(root, dir+"/version.json"); err == nil {
			if v := cudaVersionJSON(text); v != "" {
				return v, nil
			}
		}
		// Toolkits before 11.1: "CUDA Version 10.2.89".
		if v, ok := strings.CutPrefix(readLine(root, dir+"/version.txt"), "CUDA Version "); ok {
			return majorMinor(v), nil
		}
	}
	// Distributions that split the toolkit into packages install its header here.
	for _, file := range []string{"usr/include/cuda.h", "usr/local/cuda/include/cuda.h"} {
		if text, err := readFile(root, file); err == nil {
			if v := cudaVersionHeader(text); v != "" {
				return v, nil
			}
		}
	}
	return "", errors.New("no CUDA toolkit is installed")
}
