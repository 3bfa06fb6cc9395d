package preflight

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// tool puts a program of that name on a PATH of its own.
func tools(t *testing.T, scripts map[string]string) {
	dir := t.TempDir()
	for name, script := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	t.Setenv("PATH", dir)
}

func TestPython(t *testing.T) {
	const new, old = "#!/bin/sh\necho Python 3.11.2\n", "#!/bin/sh\necho Python 3.9.18\n"
	yes := func(context.Context) bool { return true }
	no := func(context.Context) bool { return false }
	for _, tt := range []struct {
		name    string
		scripts map[string]string
		local   func(context.Context) bool
		want    Status
		words   string
	}{
		{"jobs run in containers", map[string]string{"python3": old}, no, OK, "not needed"},
		{"jobs run in containers, no Python", nil, no, Skip, "none needed"},
		{"everything installed", map[string]string{"python3": new, "kitt": ""}, yes, OK, "3.11.2"},
		{"no function given", map[string]string{"python3": new, "kitt": ""}, nil, OK, "3.11.2"},
		{"too old", map[string]string{"python3": old, "kitt": ""}, yes, Fail, "older than 3.10"},
		{"nothing", nil, yes, Fail, "nothing can run a job"},
		{"no kitt", map[string]string{"python3": new}, yes, Fail, "kitt command"},
		{"a broken one, then a working one", map[string]string{"python3": "#!/bin/sh\nexit 1\n", "python": new, "kitt": ""}, yes, OK, "3.11.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tools(t, tt.scripts)
			c := Python(tt.local)
			require.True(t, c.Required())
			r := c.Run(t.Context())
			require.Equal(t, tt.want, r.Status, r.Details)
			require.Contains(t, r.Details, tt.words)
			require.Equal(t, tt.want == Fail, r.Fix != "")
		})
	}
}

func TestPythonOfTheKittCommandComesFirst(t *testing.T) {
	dir := t.TempDir()
	venv := filepath.Join(dir, "python")
	require.NoError(t, os.WriteFile(venv, []byte("#!/bin/sh\necho Python 3.12.1\n"), 0o755))
	tools(t, map[string]string{"python3": "#!/bin/sh\necho Python 3.8.0\n", "kitt": "#!" + venv + "\nimport kitt\n"})
	r := Python(nil).Run(t.Context())
	require.Equal(t, OK, r.Status, r.Details)
	require.Contains(t, r.Details, "3.12.1")
}

// faulty is a detector with a GPU fault.
type faulty struct{ hwdetect.Static }

func (faulty) Telemetry(context.Context) (hwdetect.Telemetry, error) {
	return hwdetect.Telemetry{Fault: "GPU 3 fell off the bus"}, nil
}

func TestDriver(t *testing.T) {
	t.Parallel()
	profile := func(name string) hwdetect.Static {
		m, ok := hwdetect.Profile(name)
		require.True(t, ok)
		return hwdetect.Static{Machine: m}
	}
	none := profile("cpu-only")
	none.Machine.Gaps = []hwdetect.Gap{{What: "nvml", Reason: "libnvidia-ml.so.1 is not installed"}, {What: "storage", Reason: "no"}}
	broken := hwdetect.Static{Machine: &hwdetect.Machine{
		DriverVersion: "550.54.15", GPUs: []hwdetect.GPU{{Model: "NVIDIA A100"}},
		Gaps: []hwdetect.Gap{{What: "nvidia-smi", Reason: "Driver/library version mismatch"}},
	}}
	for _, tt := range []struct {
		name     string
		detector hwdetect.Detector
		want     Status
		words    string
	}{
		{"eight H100", profile("h100-8"), OK, "8 × NVIDIA H100 80GB HBM3 80 GiB, driver 550.54.15, CUDA up to 12.4"},
		{"DGX Spark", profile("dgx-spark"), OK, "120 GiB (unified)"},
		{"no GPU", none, Fail, "nvml: libnvidia-ml.so.1 is not installed"},
		{"driver without GPU", hwdetect.Static{Machine: &hwdetect.Machine{DriverVersion: "550.54.15"}}, Fail, "lists no GPU"},
		{"mismatch", broken, Fail, "version mismatch"},
		{"fault", faulty{profile("h100-8")}, Fail, "GPU 3 fell off the bus"},
		{"no answer", hwdetect.Static{}, Fail, "has no Machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Driver(tt.detector).Run(t.Context())
			require.Equal(t, tt.want, r.Status, r.Details)
			require.Contains(t, r.Details, tt.words)
		})
	}
}

func TestNFS(t *testing.T) {
	tools(t, map[string]string{"mount.nfs": ""})
	require.Equal(t, OK, NFS("nas:/models").Run(t.Context()).Status)
	require.False(t, NFS("").Required())
	require.NotEmpty(t, nfsPackage())
}

func TestDiskSpace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "not", "there", "yet")
	r := Space(deep, 1, "")
	require.Equal(t, OK, r.Status)
	require.Contains(t, r.Details, dir)
	r = Space(deep, 1<<60, "add a disk")
	require.Equal(t, Warn, r.Status)
	require.Equal(t, "add a disk", r.Fix)
	require.NoDirExists(t, deep)
	require.Equal(t, "disk space", DiskSpace(dir).Name())
	require.Contains(t, []Status{OK, Warn}, DiskSpace(deep).Run(t.Context()).Status)
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	require.Equal(t, Skip, ConfigFile(path).Run(t.Context()).Status)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.Equal(t, OK, ConfigFile(path).Run(t.Context()).Status)
	require.NoError(t, os.Chmod(path, 0o644))
	r := ConfigFile(path).Run(t.Context())
	require.Equal(t, Warn, r.Status)
	require.Contains(t, r.Details, "0644")
	require.Equal(t, "chmod 600 "+path, r.Fix)
	require.Equal(t, Warn, ConfigFile(filepath.Dir(path)).Run(t.Context()).Status)
}

func TestPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	free := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	require.Equal(t, OK, Port(free, "gpu-01").Run(t.Context()).Status)
	require.Equal(t, Fail, Port(0, "").Run(t.Context()).Status)

	status := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"name":"gpu-01","running":false,"active_containers":[],"active_streams":0,"storage":{"used_gb":1}}`)
	})
	for _, agent := range []*httptest.Server{httptest.NewServer(status), serveTLS(t, newAuthority(t).sign(t, nil), status)} {
		t.Cleanup(agent.Close)
		held := agent.Listener.Addr().(*net.TCPAddr).Port
		r := Port(held, "gpu-01").Run(t.Context())
		require.Equal(t, OK, r.Status, r.Details)
		require.Contains(t, r.Details, "which is running")
		r = Port(held, "gpu-02").Run(t.Context())
		require.Equal(t, Fail, r.Status)
		require.Contains(t, r.Details, `the agent "gpu-01" uses`)
	}

	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	r := Port(other.Listener.Addr().(*net.TCPAddr).Port, "gpu-01").Run(t.Context())
	require.Equal(t, Fail, r.Status)
	require.Contains(t, r.Details, "another program uses")
	require.NotEmpty(t, r.Fix)
	require.False(t, Port(8090, "").Required(), "as in KITT's list")
}
