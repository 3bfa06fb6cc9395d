package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

var (
	engine *dockertest.Engine // nil if there is none
	noWhy  error              // why there is none
	image  string             // holds the program that plays kitt
	alien  string             // the same, for another architecture

	superviseProgram string // the program in front of benchmarks
	proxyProgram     string // the one between them and the engine
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "drive" {
		os.Exit(driveMain(os.Args[2]))
	}
	code, err := run(m)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "kitt-docker")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // some tests are other users
		return 1, err
	}
	if superviseProgram, err = runnertest.BuildSupervisor(dir); err != nil {
		return 1, err
	}
	if proxyProgram, err = runnertest.BuildSocketProxy(dir); err != nil {
		return 1, err
	}
	engine, noWhy = dockertest.Find(ctx)
	if noWhy != nil {
		if os.Getenv("KITT_TEST_DOCKER") == "1" {
			return 1, noWhy
		}
		return m.Run(), nil
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	kitt, err := runnertest.BuildFakeKitt(dir)
	if err != nil {
		return 1, err
	}
	tag := strings.ToLower(rand.Text())[:10]
	image, alien = "kitt-agent-test:"+tag, "kitt-agent-test:alien-"+tag
	other := "arm64"
	if engine.Arch == other {
		other = "amd64"
	}
	for name, arch := range map[string]string{image: "", alien: other} {
		defer func() { err = errors.Join(err, removeContainers(ctx, name), engine.Remove(ctx, name)) }()
		if err := engine.Build(ctx, name, kitt, arch); err != nil {
			return 1, err
		}
	}
	code = m.Run()
	name, err := scriptImage()
	return code, errors.Join(err, removeContainers(ctx, name), engine.Remove(ctx, name))
}

// removeContainers removes what is left of the containers of an image: those
// that programs asked for which were killed meanwhile.
func removeContainers(ctx context.Context, image string) error {
	list, err := engine.Client.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("ancestor", image),
	})
	errs := []error{err}
	for _, c := range list.Items {
		if c.Image != image { // other tests have the same image under another name
			continue
		}
		_, err := engine.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func needEngine(t testing.TB) {
	t.Helper()
	if engine == nil {
		t.Skipf("SKIPPED for want of a Docker engine: %v", noWhy)
	}
}

func newRunner(t testing.TB, config docker.Config) *docker.Runner {
	if config.DefaultImage == "" {
		config.DefaultImage = image
	}
	if config.Owner == "" {
		config.Owner = "test-" + rand.Text()
	}
	config.Supervisor.Path, config.SocketProxy.Path = superviseProgram, proxyProgram
	r, err := docker.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// newJob returns a job whose container is removed after the test, whatever
// becomes of it.
func newJob(t testing.TB, model string) runner.Job {
	job := runner.Job{
		ID: strings.ToLower(rand.Text()), Dir: t.TempDir(), ResultsDir: t.TempDir(),
		Model: model, Engine: "ollama", Suite: "quick", StopGrace: time.Second,
	}
	t.Cleanup(func() {
		for _, id := range containers(t, job) {
			_, err := engine.Client.ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true})
			require.NoError(t, err)
		}
	})
	return job
}

func containers(t testing.TB, job runner.Job) []string {
	if engine == nil {
		return nil
	}
	list, err := engine.Client.ContainerList(context.Background(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", docker.LabelCommand+"="+job.ID),
	})
	require.NoError(t, err)
	var ids []string
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func cancelWhen(out *runnertest.Recorder, text string, cancel func()) {
	out.OnOutput(func() {
		if strings.HasSuffix(out.Text(), text) {
			cancel()
		}
	})
}

func TestContract(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{})
	require.NoError(t, runnertest.Test(t.Context(), r, func(b runnertest.Behaviour) (runner.Job, error) {
		return newJob(t, b.Model()), nil
	}))
}

func TestRun(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=2000,long=100000,bad-utf8")
	var out runnertest.Recorder
	result, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err)
	want := lines(0, 2000) + strings.Repeat("x", 99999) + "\nbad \xff\xfe text\n"
	require.Equal(t, want, out.Text())
	require.Equal(t, "running in a container of the image "+image+"\n", out.Messages())
	require.Equal(t, "docker", result.Runner)
	require.NotEmpty(t, result.ContainerID)
	require.False(t, result.Ended.Before(result.Started))
	require.FileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))
	require.Empty(t, containers(t, job), "it is removed")

	again, err := r.Resume(t.Context(), job, out.Position(), &out)
	require.NoError(t, err, "an ended run says again how it ended")
	require.Equal(t, result, again)
}

func TestContainer(t *testing.T) {
	needEngine(t)
	t.Parallel()
	model := t.TempDir()
	r := newRunner(t, docker.Config{Owner: "somebody", Env: []string{"FOR_TEST=yes"}})
	job := newJob(t, model)
	job.Mode = "docker"
	// Another job's container has the name already.
	taken := job
	taken.Model = "fake:lines=1,hang"
	taken.ID = job.ID[:8] + "-other"
	t.Cleanup(func() {
		for _, id := range containers(t, taken) {
			_, err := engine.Client.ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true})
			require.NoError(t, err)
		}
	})
	taken.Dir = t.TempDir()
	ctx, letGo := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "line 0\n", func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, taken, &out)
	require.ErrorIs(t, err, runner.ErrDetach)

	var c container.InspectResponse
	var look runnertest.Recorder
	look.OnOutput(func() {
		if ids := containers(t, job); c.ID == "" && len(ids) == 1 {
			got, err := engine.Client.ContainerInspect(context.Background(), ids[0], client.ContainerInspectOptions{})
			require.NoError(t, err)
			c = got.Container
		}
	})
	_, err = r.Run(t.Context(), job, &look)
	require.NoError(t, err)
	require.Equal(t, "/kitt-run-"+job.ID[:16], c.Name)
	run := filepath.Join(job.Dir, "run")
	require.Equal(t, []string{
		"/kitt-supervise", "-dir", run, "-limit", "4294967296", "-done", "113", "--", "kitt",
	}, c.Config.Entrypoint)
	require.Equal(t, []string{
		"run", "-m", model, "-e", "ollama", "-s", "quick", "-o", job.ResultsDir, "--auto-pull", "--mode", "docker",
	}, c.Config.Cmd)
	require.Equal(t, job.ID, c.Config.Labels["io.kitt.command"])
	require.Equal(t, "somebody", c.Config.Labels["io.kitt.owner"])
	require.Contains(t, c.Config.Env, "FOR_TEST=yes")
	require.Contains(t, c.Config.Env, "DOCKER_HOST=unix:///run/kitt-engine/docker.sock")
	require.EqualValues(t, "host", c.HostConfig.NetworkMode)
	require.False(t, *c.HostConfig.Init, "the supervisor is the first process")
	require.Equal(t, container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1", "compress": "false"}}, c.HostConfig.LogConfig)
	require.False(t, c.HostConfig.AutoRemove)
	require.Empty(t, c.HostConfig.DeviceRequests)
	mounts := map[string]bool{}
	for _, m := range c.HostConfig.Mounts {
		switch m.Target {
		case "/kitt-supervise":
		case "/run/kitt-engine":
			require.Equal(t, filepath.Join(job.Dir, "proxy", "engine"), m.Source)
		default:
			require.Equal(t, m.Source, m.Target)
		}
		mounts[m.Target] = m.ReadOnly
	}
	require.Equal(t, map[string]bool{
		"/run/kitt-engine": true, job.ResultsDir: false, run: false, model: true, "/kitt-supervise": true,
	}, mounts)
}

// notOurs is what is said of a signal that this agent didn't send.
const notOurs = "not by this agent: somebody else stopped its container, or the Docker engine was stopped"

func TestExit(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{})
	for model, want := range map[string]runner.ExitError{
		"fake:lines=1,exit=3":    {Code: 3},
		"fake:lines=1,signal=1":  {Code: 129, Signal: "SIGHUP"},
		"fake:lines=1,signal=9":  {Code: 137, Signal: "SIGKILL", Detail: notOurs},
		"fake:lines=1,signal=15": {Code: 143, Signal: "SIGTERM", Detail: notOurs},
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			_, err := r.Run(t.Context(), newJob(t, model), &runnertest.Recorder{})
			var exit *runner.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, want, *exit)
		})
	}
}

// TestMemoryRunsOut takes more memory than the container may have. It runs by
// itself, because it makes the machine's count of such kills rise, and other
// tests kill without it.
func TestMemoryRunsOut(t *testing.T) {
	needEngine(t)
	job := newJob(t, "fake:lines=2,delay=300ms,eat=500")
	var out runnertest.Recorder
	var limited bool
	out.OnOutput(func() {
		if limited {
			return
		}
		limited = true
		const limit = 64 << 20
		for _, id := range containers(t, job) {
			_, err := engine.Client.ContainerUpdate(context.Background(), id, client.ContainerUpdateOptions{
				Resources: &container.Resources{Memory: limit, MemorySwap: limit},
			})
			require.NoError(t, err)
		}
	})
	_, err := newRunner(t, docker.Config{}).Run(t.Context(), job, &out)
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, runner.ExitError{Code: 137, Signal: "SIGKILL", OOMKilled: true}, *exit)
	require.EqualError(t, err, "Exit 137: the kernel killed the benchmark because memory ran out")
}

func TestImageChoice(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{})
	job := newJob(t, "fake:lines=1")
	job.Image = alien
	var out runnertest.Recorder
	_, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err)
	require.Regexp(t, "^the image "+alien+" is made for [a-z0-9]+ and this machine is "+engine.Arch+
		"; trying "+image+"\nrunning in a container of the image "+image+"\n$", out.Messages())

	job = newJob(t, "fake:")
	job.Image = "no/such:image"
	_, err = newRunner(t, docker.Config{DefaultImage: "Bad Name"}).Run(t.Context(), job, &out)
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.EqualError(t, err, "there is no image no/such:image on this machine; "+
		`"Bad Name" is no name of an image (kitt-agent build)`)
	_, err = r.Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestMissingModel(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, filepath.Join(t.TempDir(), "missing"))
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorContains(t, err, "the model can't be found")
	_, err = r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	r := newRunner(t, docker.Config{})
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	colon, link := filepath.Join(dir, "a:b"), filepath.Join(dir, "link")
	require.NoError(t, os.Mkdir(colon, 0o700))
	require.NoError(t, os.Symlink(colon, link))
	for _, c := range []struct{ model, results, want, fix string }{
		{model: colon, results: dir, want: "a path with a ':' can't be handed to a container", fix: "use a path without ':'"},
		{model: link, results: dir, want: "symbolic link", fix: "use its own path, " + colon},
		{model: "qwen2.5:7b", results: colon, want: "directory of the results", fix: "use a path without ':'"},
		{model: "qwen2.5:7b", results: dir + "/./", want: "not written in full", fix: "use its own path, " + dir},
	} {
		job := runner.Job{ID: "a", Dir: dir, ResultsDir: c.results, Model: c.model}
		_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
		var e *runner.Error
		require.ErrorAs(t, err, &e, c.model)
		require.Equal(t, runner.ClassPath, e.Class)
		require.Contains(t, e.Text, c.want)
		require.Equal(t, c.fix, e.Fix)
		require.NotErrorIs(t, err, runner.ErrUnavailable)
	}
}

func TestLetGoAndResume(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=600,delay=2ms,stderr")
	var out runnertest.Recorder
	follow := r.Run
	for n := 1; n <= 3; n++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		out.OnOutput(func() {
			if strings.Count(out.Text(), "\n") >= 100*n {
				cancel(runner.ErrDetach)
			}
		})
		result, err := follow(ctx, job, &out)
		require.ErrorIs(t, err, runner.ErrDetach)
		require.NotEmpty(t, result.ContainerID)
		follow = func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			return r.Resume(ctx, job, out.(*runnertest.Recorder).Position(), out)
		}
	}
	out.OnOutput(nil)
	_, err := follow(t.Context(), job, &out)
	require.NoError(t, err)
	got := strings.Split(strings.TrimSuffix(out.Text(), "\n"), "\n")
	// The engine may swap a line of stdout with one of stderr, but loses none.
	var even, odd []string
	for _, line := range got {
		var i int
		_, err := fmt.Sscanf(line, "line %d", &i)
		require.NoError(t, err)
		if i%2 == 0 {
			even = append(even, line)
		} else {
			odd = append(odd, line)
		}
	}
	for i := range 300 {
		require.Equal(t, fmt.Sprintf("line %d", 2*i), even[i])
		require.Equal(t, fmt.Sprintf("line %d", 2*i+1), odd[i])
	}
	require.Len(t, got, 600)
}

func TestResumeWithinALine(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=5,hang")
	ctx, letGo := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "line 4\n", func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)

	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	var rest runnertest.Recorder
	cancelWhen(&rest, "4\n", func() { cancel(cause) })
	from := out.Position()
	from -= 2
	_, err = r.Resume(ctx, job, from, &rest)
	require.ErrorIs(t, err, cause)
	require.Equal(t, "4\n", rest.Text())
	require.Empty(t, containers(t, job))

	_, err = r.Resume(t.Context(), job, from, &rest)
	require.ErrorIs(t, err, runner.ErrLost)
}

func TestCancel(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{})
	for _, c := range []struct {
		model string
		grace time.Duration
		least time.Duration
	}{
		{"fake:lines=1,fork-session,hang", 20 * time.Second, 0},
		{"fake:lines=1,fork,hang,ignore-term", time.Second, time.Second},
	} {
		t.Run(c.model, func(t *testing.T) {
			t.Parallel()
			job := newJob(t, c.model)
			job.StopGrace = c.grace
			cause := errors.New("stopped by a test")
			ctx, cancel := context.WithCancelCause(t.Context())
			var out runnertest.Recorder
			var begin time.Time
			cancelWhen(&out, "line 0\n", func() { begin = time.Now(); cancel(cause) })
			_, err := r.Run(ctx, job, &out)
			require.ErrorIs(t, err, cause)
			require.GreaterOrEqual(t, time.Since(begin), c.least)
			require.Less(t, time.Since(begin), c.least+8*time.Second)
			require.Empty(t, containers(t, job))
		})
	}
}

func TestRemovedByOthers(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=1,hang")
	var out runnertest.Recorder
	out.OnOutput(func() {
		for _, id := range containers(t, job) {
			_, err := engine.Client.ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true})
			require.NoError(t, err)
		}
	})
	_, err := r.Run(t.Context(), job, &out)
	require.ErrorIs(t, err, runner.ErrLost)
}

// sibling starts what looks like an engine container of kitt's, with a mount of a
// directory.
func sibling(t *testing.T, dir string) string {
	name := fmt.Sprintf("kitt-%d", time.Now().UnixNano())
	made, err := engine.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: image, Entrypoint: []string{"kitt"}, Cmd: []string{"run", "-m", "fake:lines=0,hang"}},
		HostConfig: &container.HostConfig{Binds: []string{dir + ":/models:ro"}},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := engine.Client.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true})
		if !errdefs.IsNotFound(err) {
			require.NoError(t, err)
		}
	})
	_, err = engine.Client.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{})
	require.NoError(t, err)
	return name
}

func exists(t *testing.T, name string) bool {
	_, err := engine.Client.ContainerInspect(t.Context(), name, client.ContainerInspectOptions{})
	if !errdefs.IsNotFound(err) {
		require.NoError(t, err)
	}
	return err == nil
}

// TestCleanWithTheEnginesSocket ends what has the form of the benchmark's: other names,
// other mounts and what was there before stay.
func TestCleanWithTheEnginesSocket(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{EngineSocket: docker.SocketHost}), newJob(t, t.TempDir())
	since := time.Now()
	before := sibling(t, job.Model)
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.NoError(t, err)
	other, after := sibling(t, t.TempDir()), sibling(t, job.Model)

	var out runnertest.Recorder
	require.NoError(t, r.Clean(t.Context(), job, since, &out))
	require.Equal(t, "ended the engine container "+after+" that the benchmark left running\n", out.Messages())
	require.True(t, exists(t, before), "it was there before the job")
	require.True(t, exists(t, other), "it has another model")
	require.False(t, exists(t, after))
}

func TestSweep(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{})
	job := newJob(t, "fake:lines=1,hang")
	ctx, letGo := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "line 0\n", func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)

	nobody := func(string) bool { return false }
	for _, sweep := range []func() ([]string, error){
		func() ([]string, error) { return r.Sweep(t.Context(), nobody, time.Hour) },
		func() ([]string, error) {
			return r.Sweep(t.Context(), func(id string) bool { return id == job.ID }, 0)
		},
		func() ([]string, error) { return newRunner(t, docker.Config{}).Sweep(t.Context(), nobody, 0) },
	} {
		ids, err := sweep()
		require.NoError(t, err)
		require.Empty(t, ids)
	}
	ids, err := r.Sweep(t.Context(), nobody, 0)
	require.NoError(t, err)
	require.Equal(t, []string{job.ID}, ids)
	require.Empty(t, containers(t, job))
}

func TestEngines(t *testing.T) {
	needEngine(t)
	name := "ollama/ollama:kitt-agent-test"
	_, err := engine.Client.ImageTag(t.Context(), client.ImageTagOptions{Source: image, Target: name})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), name)) })
	r := newRunner(t, docker.Config{})
	require.NoError(t, r.Ping(t.Context()))
	engines, err := r.Engines(t.Context())
	require.NoError(t, err)
	require.Contains(t, engines, "ollama")
}
