package dockercheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/preflight"
)

// runLimit is the time limit of the container. nvidia-smi needs seconds if the
// driver has to wake eight GPUs.
const runLimit = 60 * time.Second

// GPU starts a container with all GPUs and checks that nvidia-smi lists them there.
func (c *Checks) GPU() preflight.Check {
	return preflight.Func{
		Label: "docker gpu access", Must: true, Time: inspectLimit + c.cfg.PullLimit + runLimit + 15*time.Second,
		Do: func(ctx context.Context) preflight.Result {
			e, err := c.engine()
			if err != nil {
				return unreachable()
			}
			image, r := c.gpuImage(ctx, e)
			if image == "" {
				return r
			}
			return c.tryGPU(ctx, e, image)
		},
	}
}

// gpuImage returns a local image to start, which it pulls if necessary, or an empty
// name and the Result that explains why there is none.
func (c *Checks) gpuImage(ctx context.Context, e engine) (string, preflight.Result) {
	ref := c.cfg.CUDAImage
	if _, err := c.imageArch(ctx, ref); err == nil {
		return ref, preflight.Result{}
	} else if !errdefs.IsNotFound(err) {
		return "", preflight.Result{Status: preflight.Fail, Details: err.Error()}
	}
	if c.HasImage(ctx) {
		// NVIDIA's runtime adds nvidia-smi to every container.
		return c.cfg.Image, preflight.Result{}
	}
	if err := c.pull(ctx, ref); err != nil {
		r := preflight.Result{
			Status:  preflight.Fail,
			Details: fmt.Sprintf("access to GPUs was not checked: the image %s is missing and cannot be pulled: %s", ref, explainPull(err)),
			Fix:     "docker pull " + ref + ", or kitt-agent build: its image can be used as well",
		}
		if !e.hasRuntime("nvidia") && !e.cdi {
			r.Details += "; the engine also lists no NVIDIA runtime"
			r.Fix += "; " + toolkit
		}
		return "", r
	}
	return ref, preflight.Result{}
}

var errSilent = errors.New("the registry sends no data")

// pull pulls an image. It stops after PullLimit, or if there was no progress for
// PullSilence.
func (c *Checks) pull(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PullLimit)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	silence := time.AfterFunc(c.cfg.PullSilence, func() { abort(errSilent) })
	defer silence.Stop()

	stream, err := c.cfg.Client.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return withCause(ctx, err)
	}
	defer stream.Close()
	done, total := make(map[string]int64), make(map[string]int64)
	var reported time.Time
	for m, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return withCause(ctx, err)
		}
		if m.Error != nil {
			return m.Error
		}
		silence.Reset(c.cfg.PullSilence)
		if m.Progress != nil && m.Status == "Downloading" {
			done[m.ID], total[m.ID] = m.Progress.Current, m.Progress.Total
		}
		if c.cfg.Progress != nil && time.Since(reported) >= time.Second {
			reported = time.Now()
			c.cfg.Progress(pullLine(ref, sum(done), sum(total)))
		}
	}
	return withCause(ctx, ctx.Err())
}

// withCause returns the cause of ctx if it is done, and err otherwise.
func withCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func pullLine(ref string, done, total int64) string {
	if total == 0 {
		return "pulling " + ref
	}
	return fmt.Sprintf("pulling %s: %d of %d MB", ref, done/1e6, total/1e6)
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// explainPull returns why a pull failed.
func explainPull(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return "the registry does not answer"
	case strings.Contains(text, "no such host"), strings.Contains(text, "connection refused"), strings.Contains(text, "i/o timeout"),
		strings.Contains(text, "network is unreachable"), strings.Contains(text, "Temporary failure in name resolution"),
		strings.Contains(text, "request canceled"), strings.Contains(text, "Client.Timeout"):
		return "the registry cannot be reached"
	}
	return text
}

// tryGPU runs nvidia-smi in a container of image, and removes the container.
func (c *Checks) tryGPU(ctx context.Context, e engine, image string) preflight.Result {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	created, err := c.cfg.Client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{
			Image:      image,
			Entrypoint: []string{"nvidia-smi", "-L"},
			Labels:     map[string]string{"kitt.agent": "preflight"},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none",
			Resources: container.Resources{
				DeviceRequests: []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}},
			},
		},
	})
	if err != nil {
		return explainStart(e, err.Error())
	}
	defer c.remove(ctx, created.ID)
	if _, err := c.cfg.Client.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		if ctx.Err() != nil {
			return hangs()
		}
		return explainStart(e, err.Error())
	}
	wait := c.cfg.Client.ContainerWait(ctx, created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	var status int64
	select {
	case w := <-wait.Result:
		status = w.StatusCode
	case err := <-wait.Error:
		if ctx.Err() != nil {
			return hangs()
		}
		return preflight.Result{Status: preflight.Fail, Details: "the container was lost: " + err.Error()}
	}
	out := c.output(ctx, created.ID)
	if n := len(listed.FindAllString(out, -1)); status == 0 && n > 0 {
		gpus := "GPUs"
		if n == 1 {
			gpus = "GPU"
		}
		return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("a container of %s sees %d %s (%s %s)", image, n, gpus, e.name, e.version)}
	}
	return explainStart(e, fmt.Sprintf("nvidia-smi exited with status %d: %s", status, strings.TrimSpace(out)))
}

var listed = regexp.MustCompile(`(?m)^GPU \d+:`)

func hangs() preflight.Result {
	return preflight.Result{
		Status:  preflight.Fail,
		Details: fmt.Sprintf("a container with GPUs did not exit within %s: the driver or the engine hangs", runLimit),
		Fix:     "run nvidia-smi; restart the machine if that hangs as well",
	}
}

// remove removes the container, even if ctx is done.
func (c *Checks) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, _ = c.cfg.Client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
}

// output returns the container's output, at most 64 KiB of it.
func (c *Checks) output(ctx context.Context, id string) string {
	logs, err := c.cfg.Client.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return ""
	}
	defer logs.Close()
	var b bytes.Buffer
	_, _ = stdcopy.StdCopy(&b, &b, io.LimitReader(logs, 64<<10))
	return b.String()
}

// toolkit is how to install NVIDIA's runtime,
// https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html.
const toolkit = "install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"

// explainStart returns the Result for a container with GPUs that did not start.
// text is the message of the engine or of NVIDIA's runtime.
func explainStart(e engine, text string) preflight.Result {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	fail := func(details, fix string) preflight.Result {
		return preflight.Result{Status: preflight.Fail, Details: details, Fix: fix}
	}
	switch {
	case has("could not select device driver", "no known GPU vendor found", "unknown or invalid runtime name: nvidia", "unresolvable CDI devices"):
		return fail("the Docker engine has no GPUs for containers: NVIDIA's container toolkit is not set up", toolkit)
	case has("driver not loaded", "nvidia-container-cli: initialization error", "couldn't communicate with the NVIDIA driver", "libnvidia-ml.so.1: cannot open shared object"):
		return fail("the NVIDIA driver is not loaded, or not visible to containers", "first make nvidia-smi work on the machine itself")
	case has("Driver/library version mismatch", "version mismatch"):
		return fail("the versions of the NVIDIA driver and its library differ", "restart the machine, or reload the nvidia kernel module")
	case has("bpf_prog_query", "failed to set up cgroup", "cgroup subsystem devices not found", "load library failed: operation not permitted"):
		return fail("control groups prevent NVIDIA's runtime from adding devices: "+short(text), "set no-cgroups in /etc/nvidia-container-runtime/config.toml to true for a rootless engine, false otherwise; update nvidia-container-toolkit")
	case has("Failed to initialize NVML: Unknown Error"):
		return fail("the container lost its GPUs, as after a systemctl daemon-reload", "sudo nvidia-ctk system create-dev-char-symlinks --create-all")
	case has(`exec: "nvidia-smi"`, "executable file not found"):
		if e.name == "Podman" {
			return fail("Podman accepted the request for GPUs and started the container without them", "use Docker: Podman ignores requests for GPUs that come through Docker's API")
		}
		if e.hasRuntime("nvidia") {
			return fail("NVIDIA's runtime added no nvidia-smi to the container", toolkit)
		}
		return fail("the engine started a container without the GPUs", toolkit)
	}
	return fail("a container with GPUs did not start: "+short(text), toolkit)
}

func (e engine) hasRuntime(name string) bool { return slices.Contains(e.runtimes, name) }

// short returns at most 240 characters of a container runtime's error, on one line.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 240 {
		return string(r[:239]) + "…"
	}
	return s
}
