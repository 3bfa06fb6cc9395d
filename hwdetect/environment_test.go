package hwdetect

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestEnvironmentType(t *testing.T) {
	t.Parallel()
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, tt := range []struct {
		want string
		root fstest.MapFS
	}{
		{"dgx", fstest.MapFS{"etc/dgx-release": file("DGX Server"), ".dockerenv": file("")}},
		{"dgx_spark", fstest.MapFS{"etc/dgx-release": file("NVIDIA DGX SPARK")}},
		{"dgx_spark", fstest.MapFS{"etc/nvidia/nvidia-dgs.conf": file(""), "proc/version": file("Microsoft")}},
		{"wsl2", fstest.MapFS{"proc/version": file("Linux 5.15-WSL2"), ".dockerenv": file("")}},
		{"docker", fstest.MapFS{".dockerenv": file(""), "proc/1/cgroup": file("/lxc/x")}},
		{"container", fstest.MapFS{"proc/1/cgroup": file("4:cpu:/docker/abc")}},
		{"native_linux", fstest.MapFS{"proc/1/cgroup": file("0::/init.scope")}},
		{"native_linux", fstest.MapFS{}},
	} {
		require.Equal(t, tt.want, environmentType(tt.root))
	}
}

func TestCUDAToolkit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, text, want string }{
		{"usr/local/cuda/version.json", `{"cuda":{"version":"12.4.1"},"cuda_nvcc":{"version":"12.3.9"}}`, "12.3"},
		{"usr/local/cuda/version.json", `{"cuda":{"version":"12.4.1"}}`, "12.4"},
		{"usr/local/cuda/version.json", `{`, ""},
		{"usr/local/cuda/version.txt", "CUDA Version 10.2.89\n", "10.2"},
		{"usr/include/cuda.h", "#define CUDA_VERSION 13010\n", "13.1"},
		{"elsewhere", "", ""},
	} {
		got, err := cudaToolkit(fstest.MapFS{tt.file: {Data: []byte(tt.text)}})
		require.Equal(t, tt.want, got)
		require.Equal(t, tt.want == "", err != nil)
	}
}
