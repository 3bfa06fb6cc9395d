package docker_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// created returns an answer to the creation of a container, which it decodes into body.
func created(body *container.CreateRequest) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(body); err != nil {
			reply(400, `{"message":"`+err.Error()+`"}`)(w, r)
			return
		}
		reply(201, `{"Id":"c1"}`)(w, r)
	}
}

// TestPodmanGivesNoGPUs ends a job whose container sees no GPU, and names Podman, which
// accepts a request for GPUs without a word.
func TestPodmanGivesNoGPUs(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /version": reply(200, `{"Version":"4.3.1","Arch":"amd64","ApiVersion":"1.41","Components":[{"Name":"Podman Engine","Version":"4.3.1"}]}`),
	})
	s.exit = `{"version":1,"code":0,"devices":0,"fault":"few-gpus","error":"it sees 0 GPUs and was to have 8"}`
	job := stubJob(t)
	job.GPUFiles = 8
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorContains(t, err, "Podman Engine 4.3.1 accepted the request for GPUs and started the container without them: it sees 0 GPUs and was to have 8")
	class, fix := fault.Of(err)
	require.Equal(t, runner.ClassGPURuntime, class)
	require.Contains(t, fix, "use Docker")
	require.NotErrorIs(t, err, runner.ErrNotReady)
	require.NotErrorIs(t, err, runner.ErrUnavailable)
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}

// TestMoreGPUsThanAskedFor is an error with sets, and a line in the log without.
func TestMoreGPUsThanAskedFor(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	s.exit = `{"version":1,"code":0,"devices":8,"fault":"many-gpus","error":"it sees 8 GPUs and was to have 2"}`
	job := stubJob(t)
	job.GPUs, job.GPUFiles, job.GPUsOnly = []string{"GPU-1", "GPU-2"}, 2, true
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorContains(t, err, "other GPUs than it was asked for")
	_, fix := fault.Of(err)
	require.Contains(t, fix, "default-runtime")

	s, r = newStub(t, nil)
	s.exit = `{"version":1,"code":0,"devices":8}`
	job = stubJob(t)
	job.GPUs, job.GPUFiles = []string{"GPU-1", "GPU-2"}, 2
	var out runnertest.Recorder
	result, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err)
	require.Equal(t, 8, *result.SeenGPUs)
	require.Contains(t, out.Messages(), "the container saw 8 GPUs and was to have 2")
}

// TestRequestOfASet asks for a set by CDI if the engine lists all of it, and by ids
// otherwise, and binds the container to the CPUs and the memory of the set.
func TestRequestOfASet(t *testing.T) {
	t.Parallel()
	const both = `{"DiscoveredDevices":[{"Source":"cdi","ID":"nvidia.com/gpu=GPU-1"},{"Source":"cdi","ID":"nvidia.com/gpu=GPU-2"},{"Source":"cdi","ID":"nvidia.com/gpu=all"}]}`
	for _, tt := range []struct {
		name, info string
		gpus       []string
		want       []container.DeviceRequest
		visible    string
	}{
		{"cdi", both, []string{"GPU-1", "GPU-2"}, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"}}}, "void"},
		{"cdi for all", both, []string{runner.AllGPUs}, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}, "void"},
		{"not all in cdi", both, []string{"GPU-1", "GPU-3"}, []container.DeviceRequest{{DeviceIDs: []string{"GPU-1", "GPU-3"}, Capabilities: [][]string{{"gpu"}}}}, "GPU-1,GPU-3"},
		{"no cdi", `{}`, []string{"GPU-1"}, []container.DeviceRequest{{DeviceIDs: []string{"GPU-1"}, Capabilities: [][]string{{"gpu"}}}}, "GPU-1"},
		{"none", both, nil, nil, "void"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var body container.CreateRequest
			_, r := newStub(t, map[string]http.HandlerFunc{"GET /info": reply(200, tt.info), "POST /containers/create": created(&body)})
			job := stubJob(t)
			job.GPUs, job.GPUFiles, job.GPUsOnly = tt.gpus, len(tt.gpus), true
			job.Host = runner.HostSet{CPUs: "0-3", MemoryNodes: "0", MemoryShare: 0.25}
			_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
			require.NoError(t, err)
			require.Equal(t, tt.want, body.HostConfig.DeviceRequests)
			require.Contains(t, body.Env, "NVIDIA_VISIBLE_DEVICES="+tt.visible)
			require.Equal(t, "0-3", body.HostConfig.CpusetCpus)
			require.Equal(t, "0", body.HostConfig.CpusetMems)
			if len(tt.gpus) > 0 {
				require.Contains(t, body.Entrypoint, "-gpus-only")
			}
		})
	}
}
