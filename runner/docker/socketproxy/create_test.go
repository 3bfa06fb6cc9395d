package socketproxy

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
)

// TestKittsContainer rewrites what `docker run` of KITT's asks for.
func TestKittsContainer(t *testing.T) {
	t.Parallel()
	model := t.TempDir()
	s, p := newProxy(t, func(p *Policy) {
		p.Model, p.GPUs, p.Labels = model, []string{"GPU-1", "GPU-2"}, map[string]string{"io.kitt.owner": "me"}
	})
	status, body := ask(p, "POST", "/v1.41/containers/create?name=kitt-1", `{
		"Hostname":"","User":"","AttachStdout":false,"ExposedPorts":{},"Env":["A=b","NVIDIA_VISIBLE_DEVICES=all"],"Cmd":["--model","/models/m"],
		"Image":"vllm/vllm-openai:latest","Volumes":{},"Labels":{"mine":"1","IO.kitt.command":"other","io.kitt.engine":"other"},
		"HostConfig":{"Binds":["`+model+`:/models/m"],"NetworkMode":"host","PortBindings":{},"RestartPolicy":{"Name":"no"},"ConsoleSize":[24,80],
		"ShmSize":8589934592,"Devices":[],"DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]],"Options":{}}],"Runtime":"nvidia",
		"PidsLimit":0,"MemorySwappiness":-1,"OomKillDisable":false,"MaskedPaths":null,"LogConfig":{"Type":"","Config":{}}},
		"NetworkingConfig":{"EndpointsConfig":{"host":{"Links":null}}}}`)
	require.Equal(t, http.StatusCreated, status, body)
	require.Equal(t, "/v1.41/containers/create?name=kitt-1-job-1", s.last().uri)
	c := created(t, s)
	require.Equal(t, "vllm/vllm-openai:latest", c.Image)
	require.Equal(t, map[string]string{LabelEngine: "job-1", "io.kitt.owner": "me"}, c.Labels)
	require.Equal(t, []string{"A=b", "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2"}, c.Env)
	require.Equal(t, []string{"--model", "/models/m"}, c.Cmd)
	require.EqualValues(t, "host", c.HostConfig.NetworkMode)
	require.EqualValues(t, 4<<30, c.HostConfig.ShmSize, "cut down to what the policy allows")
	require.EqualValues(t, DefaultPids, *c.HostConfig.PidsLimit)
	require.Empty(t, c.HostConfig.Runtime)
	require.Equal(t, []container.DeviceRequest{{DeviceIDs: []string{"GPU-1", "GPU-2"}, Capabilities: [][]string{{"gpu"}}}}, c.HostConfig.DeviceRequests)
	require.Equal(t, []mount.Mount{bindMount(model, "/models/m", true)}, c.HostConfig.Mounts)
	require.Nil(t, c.NetworkingConfig)
}

// TestEnginesGetTheSetByCDI rewrites a request for all GPUs into one for the job's, by
// CDI, with the CPUs and the memory node of the set.
func TestEnginesGetTheSetByCDI(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, func(p *Policy) {
		p.GPUs, p.CDI = []string{"GPU-1"}, []string{"nvidia.com/gpu=GPU-1"}
		p.CPUs, p.MemoryNodes = "0-3", "0"
	})
	status, body := ask(p, "POST", "/v1.41/containers/create", `{"Image":"vllm/vllm-openai:latest","Env":["NVIDIA_VISIBLE_DEVICES=all"],
		"HostConfig":{"NetworkMode":"host","CpusetCpus":"0-63","DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]}}`)
	require.Equal(t, http.StatusCreated, status, body)
	c := created(t, s)
	require.Equal(t, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=GPU-1"}}}, c.HostConfig.DeviceRequests)
	require.Equal(t, []string{"NVIDIA_VISIBLE_DEVICES=void"}, c.Env)
	require.Equal(t, "0-3", c.HostConfig.CpusetCpus)
	require.Equal(t, "0", c.HostConfig.CpusetMems)
}

// TestEscapes are containers that would give a benchmark more than its own.
func TestEscapes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	model, results := filepath.Join(root, "model"), filepath.Join(root, "results")
	for _, dir := range []string{model, results, model + "-other", filepath.Join(results, "sub")} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	require.NoError(t, os.Symlink("/etc", filepath.Join(model, "etc")))
	require.NoError(t, os.Symlink("/etc", filepath.Join(results, "etc")))
	s, p := newProxy(t, func(p *Policy) { p.Model, p.Results = model, results })
	for name, fields := range map[string]string{
		"root":                  `"HostConfig":{"Binds":["/:/host"]}`,
		"socket":                `"HostConfig":{"Binds":["/var/run/docker.sock:/var/run/docker.sock"]}`,
		"above the model":       `"HostConfig":{"Binds":["` + root + `:/m"]}`,
		"next to the model":     `"HostConfig":{"Binds":["` + model + `-other:/m"]}`,
		"dots":                  `"HostConfig":{"Binds":["` + model + `/../../:/m"]}`,
		"dots in the target":    `"HostConfig":{"Binds":["` + model + `:/m/../.."]}`,
		"a link in the model":   `"HostConfig":{"Binds":["` + model + `/etc:/m"]}`,
		"a link in the results": `"HostConfig":{"Binds":["` + results + `/etc:/m"]}`,
		"below the results":     `"HostConfig":{"Binds":["` + results + `/sub:/m"]}`,
		"relative":              `"HostConfig":{"Binds":["model:/m"]}`,
		"a volume":              `"HostConfig":{"Binds":["other-volume:/m"]}`,
		"options":               `"HostConfig":{"Binds":["` + model + `:/m:rw:rw"]}`,
		"a mount":               `"HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/m"}]}`,
		"a mounted volume":      `"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"device":"/","o":"bind"}}}}]}`,
		"over the root":         `"HostConfig":{"Binds":["` + model + `:/"]}`,
		"devices by mount":      `"HostConfig":{"Binds":["` + results + `:/var/run/nvidia-container-devices/all"]}`,
		"odd case":              `"hostconfig":{"bINDS":["/:/host"]}`,
		"odd letters":           `"HoſtConfig":{"Bindſ":["/:/host"]}`,
		"the last duplicate":    `"HostConfig":{"Binds":[]},"HostConfig":{"Binds":["/:/host"]}`,
		"a duplicate in case":   `"HostConfig":{"Privileged":false,"privileged":true}`,
		"privileged":            `"HostConfig":{"Privileged":true}`,
		"the host's pids":       `"HostConfig":{"PidMode":"host"}`,
		"another's pids":        `"HostConfig":{"PidMode":"container:` + theirs + `"}`,
		"the host's ipc":        `"HostConfig":{"IpcMode":"host"}`,
		"another's ipc":         `"HostConfig":{"IpcMode":"container:theirs"}`,
		"the host's names":      `"HostConfig":{"UTSMode":"host"}`,
		"the host's users":      `"HostConfig":{"UsernsMode":"host"}`,
		"the host's cgroups":    `"HostConfig":{"CgroupnsMode":"host"}`,
		"another's network":     `"HostConfig":{"NetworkMode":"container:theirs"}`,
		"a network":             `"HostConfig":{"NetworkMode":"secret-net"}`,
		"capabilities":          `"HostConfig":{"CapAdd":["SYS_ADMIN"]}`,
		"devices":               `"HostConfig":{"Devices":[{"PathOnHost":"/dev/sda","PathInContainer":"/dev/sda","CgroupPermissions":"rwm"}]}`,
		"device rules":          `"HostConfig":{"DeviceCgroupRules":["b *:* rwm"]}`,
		"security options":      `"HostConfig":{"SecurityOpt":["seccomp=unconfined"]}`,
		"sysctls":               `"HostConfig":{"Sysctls":{"kernel.core_pattern":"|/x"}}`,
		"volumes of another":    `"HostConfig":{"VolumesFrom":["theirs"]}`,
		"links":                 `"HostConfig":{"Links":["theirs:x"]}`,
		"a parent cgroup":       `"HostConfig":{"CgroupParent":"/"}`,
		"unmasked paths":        `"HostConfig":{"MaskedPaths":["/x"]}`,
		"annotations":           `"HostConfig":{"Annotations":{"cdi.k8s.io/x":"y"}}`,
		"restarts":              `"HostConfig":{"RestartPolicy":{"Name":"always"}}`,
		"storage":               `"HostConfig":{"StorageOpt":{"size":"1G"}}`,
		"groups":                `"HostConfig":{"GroupAdd":["docker"]}`,
		"out of memory":         `"HostConfig":{"OomScoreAdj":-1000}`,
		"many files":            `"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":1}]}`,
		"an anonymous volume":   `"Volumes":{"/v":{}}`,
	} {
		status, body := ask(p, "POST", "/v1.41/containers/create", `{"Image":"ollama/ollama",`+fields+`}`)
		require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, status, "%s: %s", name, body)
	}
	for _, image := range []string{
		"alpine", "vllm/vllm-openai-evil", "evil/vllm/vllm-openai", "ghcr.io/vllm/vllm-openai", strings.Repeat("a", 64), "sha256:" + strings.Repeat("a", 64),
		"", "ollama", "Ollama/ollama", "ollama/ollama:", "ollama/ollama/x", "localhost/ollama/ollama",
	} {
		status, body := ask(p, "POST", "/containers/create", `{"Image":"`+image+`"}`)
		require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, status, "%s: %s", image, body)
	}
	for _, body := range []string{"", "{", "[]", "null", `{"Image":1}`, `{"HostConfig":{}}`, `{"Image":"ollama/ollama"}{"Image":"x"}`, strings.Repeat("[", 20000)} {
		status, _ := ask(p, "POST", "/containers/create", body)
		require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, status, "%.40q", body)
	}
	for _, query := range []string{"name=a/b", "name=..", "name=a%00", "platform=x;y", "%zz", "name=" + strings.Repeat("a", 300)} {
		status, _ := ask(p, "POST", "/containers/create?"+query, `{"Image":"ollama/ollama"}`)
		require.Equal(t, http.StatusBadRequest, status, query)
	}
	require.Empty(t, s.changes(), "none of it reached the engine")
}

// TestManyContainers refuses more than a benchmark needs.
func TestManyContainers(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, nil)
	one := `{"Labels":{"io.kitt.engine":"job-1"}}`
	s.list = "[" + strings.Repeat(one+",", maxContainers-1) + `{"Labels":{"io.kitt.engine":"job-2"}}]`
	status, body := ask(p, "POST", "/containers/create", `{"Image":"ollama/ollama"}`)
	require.Equal(t, http.StatusCreated, status, body)
	s.list = "[" + strings.Repeat(one+",", maxContainers-1) + one + "]"
	status, body = ask(p, "POST", "/containers/create", `{"Image":"ollama/ollama"}`)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "more than 32 containers")
}

// TestWithoutGPUs has a job that gets none, and a container that asks for none.
func TestWithoutGPUs(t *testing.T) {
	t.Parallel()
	for body, gpus := range map[string][]string{
		`{"Image":"ollama/ollama","HostConfig":{"DeviceRequests":[{"Count":-1}]}}`:                        nil,
		`{"Image":"ollama/ollama","Env":["NVIDIA_VISIBLE_DEVICES=all","NVIDIA_MIG_MONITOR_DEVICES=all"]}`: {"all"},
	} {
		s, p := newProxy(t, func(p *Policy) { p.GPUs = gpus })
		status, answer := ask(p, "POST", "/containers/create", body)
		require.Equal(t, http.StatusCreated, status, answer)
		c := created(t, s)
		require.Empty(t, c.HostConfig.DeviceRequests)
		require.Equal(t, []string{"NVIDIA_VISIBLE_DEVICES=void"}, c.Env)
	}
}

// TestJobsNetwork joins a container to the benchmark's own.
func TestJobsNetwork(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, func(p *Policy) {
		p.Network, p.Benchmark = NetworkJob, map[string]string{"io.kitt.command": "job-1"}
	})
	const body = `{"Image":"ollama/ollama","HostConfig":{"NetworkMode":"host"}}`
	status, answer := ask(p, "POST", "/containers/create", body)
	require.Equal(t, http.StatusBadGateway, status)
	require.Contains(t, answer, "was not found")
	s.list = `[{"Id":"` + kittID + `"}]`
	status, answer = ask(p, "POST", "/containers/create", body)
	require.Equal(t, http.StatusCreated, status, answer)
	require.EqualValues(t, "container:"+kittID, created(t, s).HostConfig.NetworkMode)
}

// FuzzCreate holds whatever reaches the engine to what a benchmark may have.
func FuzzCreate(f *testing.F) {
	for _, body := range []string{
		`{"Image":"ollama/ollama","HostConfig":{"Binds":["/model:/m"],"Privileged":true}}`, `{"image":"kitt/vllm","HOSTCONFIG":{"mounts":[{"type":"bind"}]}}`,
		`{"Image":"ollama/ollama","HostConfig":{"Ulimits":[null],"DeviceRequests":[{}]}}`, `{"Image":"ollama/ollama","Healthcheck":{"Test":["x"]},"StopTimeout":-1}`,
	} {
		f.Add([]byte(body))
	}
	s, p := newProxy(f, func(p *Policy) { p.Model = "/model" })
	f.Fuzz(func(t *testing.T, body []byte) {
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
		status, _ := ask(p, "POST", "/containers/create", string(body))
		if status != http.StatusCreated {
			require.Empty(t, s.changes())
			return
		}
		c := created(t, s)
		h := c.HostConfig
		require.Equal(t, "job-1", c.Labels[LabelEngine])
		require.False(t, h.Privileged)
		require.Empty(t, h.Binds)
		require.Empty(t, h.CapAdd)
		require.Empty(t, h.Devices)
		require.Empty(t, h.SecurityOpt)
		require.Empty(t, string(h.PidMode)+string(h.UTSMode)+string(h.UsernsMode)+h.Runtime)
		for _, m := range h.Mounts {
			require.True(t, m.ReadOnly && base.Within("/model", m.Source))
		}
		require.Equal(t, len(c.Env)-1, slices.IndexFunc(c.Env, choosesDevices), "only the last is ours")
	})
}
