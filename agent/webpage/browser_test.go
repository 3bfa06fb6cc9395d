package webpage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/webpage"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
	"github.com/kirizan/kitt-agent/internal/browser"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
	"github.com/kirizan/kitt-agent/storage"
)

// A slowShare copies a model until it is told to go on.
type slowShare struct{ goOn chan struct{} }

func (s slowShare) Acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	if strings.Contains(req.Model, "Llama-3.1-70B") && req.Progress != nil {
		req.Progress(storage.Progress{BytesDone: 58 << 30, BytesTotal: 131 << 30, FilesDone: 17, FilesTotal: 42, Rate: 1.9 * (1 << 30), Remaining: 38 * time.Second})
		select {
		case <-s.goOn:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return storage.NewLease("/models/"+req.Model, storage.OriginCopied, nil), nil
}

func (slowShare) Evict(context.Context, string) (storage.Eviction, error) {
	return storage.Eviction{}, nil
}

func (slowShare) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{UsedBytes: 1400 << 30, FreeBytes: 412 << 30, ModelCount: 3}, nil
}

// busyGPUs is a machine whose GPUs work.
func busyGPUs(t *testing.T) *hwdetecttest.Fake {
	t.Helper()
	fake := hwdetecttest.NewFake(machine(t))
	reading := machine(t).Reading(0.87, time.Now())
	for i := range reading.GPUs {
		g := &reading.GPUs[i]
		util, power, clock, temperature := 87+float64(i), 560+10*float64(i), 1755+15*i, 61+float64(i)
		g.UtilizationPct, g.PowerW, g.SMClockMHz, g.TemperatureC = &util, &power, &clock, &temperature
		g.ThrottleReasons = []string{}
	}
	reading.GPUs[2].ThrottleReasons = []string{"hw_thermal_slowdown"}
	reading.Time = time.Time{}
	fake.SetTelemetry(reading, nil)
	return fake
}

// anHour is a page whose charts begin with an hour of readings, as of an agent that has
// run for long: two jobs, a gap, a power cap and a thermal slowdown.
func anHour(t *testing.T, page http.Handler, on *atomic.Bool) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/gpus.json" || !on.Load() {
			page.ServeHTTP(w, r)
			return
		}
		now := time.Now().UnixMilli()
		minute := func(m float64) int64 { return now - int64(m*60e3) }
		answer := map[string]any{
			"now": now, "gpus": []any{}, "reasons": map[string]string{"2": "sw_power_cap", "6": "hw_thermal_slowdown"},
			"jobs": []any{map[string]any{"id": "a", "model": "Llama-3.1-8B", "from": minute(52), "to": minute(38)}, map[string]any{"id": "b", "model": "Llama-3.1-70B", "from": minute(21), "to": 0}},
		}
		readings := []any{}
		for m := 59.9; m > 0; m -= 0.25 {
			if m > 30 && m < 33 {
				continue
			}
			reading := []any{minute(m)}
			for i := range 8 {
				g := float64(i)
				load, bits := 0.02, 0
				if m < 51 && m > 38.5 || m < 19 {
					load = 0.9 + 0.08*math.Sin(m*3+g)
					if i == 2 && m < 9 && m > 5 {
						load, bits = 0.55, 1<<6
					} else if i > 4 && m > 40 && m < 47 {
						bits = 1 << 2
					}
				}
				reading = append(reading, []any{i, 100 * load, 2 + 70*load, 31 + 38*load + g/2, 85 + 560*load, 345 + 1600*load, bits})
			}
			readings = append(readings, reading)
		}
		answer["readings"] = readings
		w.Header().Set("Content-Type", "application/json")
		require.NoError(t, json.NewEncoder(w).Encode(answer))
	})
}

// TestTheTourOfAJob looks at all views in mid-job, at a phone's and a laptop's width, in
// the dark and in the light.
func TestTheTourOfAJob(t *testing.T) {
	b := browser.NewTab(t)
	share := slowShare{make(chan struct{})}
	bench := make(chan struct{})
	var once sync.Once
	sim, err := simulated.New(simulated.Config{})
	require.NoError(t, err)
	run := runnerFunc(func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		switch {
		case strings.Contains(job.Model, "Math"):
			fmt.Fprintln(runner.OutputWriter(out), "Loading weights\nTraceback (most recent call last):\n  File \"engine.py\", line 81\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
			return runner.Result{}, &runner.Error{Class: "oom", Text: "CUDA out of memory", Fix: "choose a smaller model or a quantised one", Err: errors.New("exit 1")}
		case strings.Contains(job.Model, "Llama-3.1-70B"):
			for i := range 60 {
				fmt.Fprintf(runner.OutputWriter(out), "INFO 11-29 11:30:%02d engine.py:41] step %d, 187.4 tokens/s\n", i, i)
			}
			select {
			case <-bench:
			case <-ctx.Done():
				return runner.Result{}, context.Cause(ctx)
			}
		}
		select {
		case <-time.After(time.Second): // what is shorter says nothing of the machine
		case <-ctx.Done():
			return runner.Result{}, context.Cause(ctx)
		}
		return sim.Run(ctx, job, out)
	})
	thermal := &thermalMachine{begun: time.Now()}
	busy, err := busyGPUs(t).Telemetry(t.Context())
	require.NoError(t, err)
	thermal.SetSample(integrity.Sample{GPUs: busy.GPUs}, nil)
	var fullHour atomic.Bool
	server := &agenttest.Server{}
	s := serve(t, agent.Config{Name: "dgx-h100-03", Version: "0.1.0", Server: server, Runner: run, Storage: share, Detector: busyGPUs(t), Integrity: agent.Integrity{Source: thermal}, Page: func(a *agent.Agent) http.Handler {
		page := everything()
		page.Agent = a
		return anHour(t, webpage.New(page), &fullHour)
	}}, webpage.Config{}, "")
	ended := func(model string) string {
		id := s.submit(model)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := s.agent.Wait(ctx, id)
		require.NoError(t, err)
		return id
	}
	first := ended("meta-llama/Llama-3.1-8B-Instruct")
	thermal.hot.Store(true)
	second := ended("Qwen/Qwen2.5-7B-Instruct")
	thermal.hot.Store(false)
	failed := ended("Qwen/Qwen2.5-Math-72B")
	id := s.submit("meta-llama/Llama-3.1-70B-Instruct")
	s.submit("Qwen/Qwen2.5-72B-Instruct-AWQ")
	s.submit("mistralai/Mixtral-8x7B-Instruct-v0.1")
	s.awaitState(id, agent.StatePreparing)

	looks := func(name, path, ready string) {
		t.Helper()
		for _, width := range []int64{1280, 375} {
			for _, dark := range []bool{false, true} {
				b.Dark(dark)
				b.Do(chromedp.EmulateViewport(width, 812), chromedp.Navigate(s.url+path))
				b.Until(ready)
				b.Accessible()
				// The pictures are for the documentation: no directory of a test in them.
				browser.Eval[bool](b, `document.querySelectorAll(".wide code").forEach((e) => e.textContent = e.textContent.replace(/^.*(?=\/jobs\/)/, "/var/lib/kitt-agent")) || true`)
				b.Shoot(fmt.Sprintf("%s-%d-%s", name, width, map[bool]string{false: "light", true: "dark"}[dark]))
			}
		}
	}
	looks("1-copying", "/", `document.querySelector("progress").value === 44 && document.querySelector("#running").innerText.includes("38 s left")`)
	close(share.goOn)
	b.Until(`document.querySelector("#running .steps [aria-current]").innerText === "run"`) // by itself
	looks("2-running", "/", `document.querySelector("[data-gpu='7'] [data-figure=utilization]").innerText === "94 %"`)
	looks("3-log", "/jobs/"+id, `document.querySelector("#log").textContent.includes("step 59,")`)
	fullHour.Store(true)
	looks("4-gpus", "/gpus", `document.querySelector("[data-chart='7'] path.line").getAttribute("d")?.length > 0`)
	require.Equal(t, 8, browser.Eval[int](b, `document.querySelectorAll("[data-chart='7'] .cap").length + document.querySelectorAll("[data-chart='2'] .slow").length + 3 * document.querySelectorAll("[data-chart='0'] rect.job").length`))
	looks("5-jobs", "/jobs", `document.querySelectorAll("#ended tbody tr").length === 3`)
	looks("6-models", "/models", `document.querySelectorAll("#copies tbody tr").length === 3`)
	looks("8-settings", "/settings", `document.querySelectorAll("#own tbody tr").length === 2 && document.querySelectorAll("#defaults tbody tr").length === 1`)
	looks("9-failed", "/jobs/"+failed, `document.querySelector("[data-error-count]").innerText.includes("errors")`)
	looks("10-result", "/jobs/"+second, `document.querySelector("#outcome").innerText.includes("avg_tps")`)
	b.Do(chromedp.EmulateViewport(1280, 900))
	browser.Eval[bool](b, `document.querySelector(".run").open = true`)
	b.Until(`document.querySelector(".run img").complete && document.querySelector(".run img").naturalWidth > 0`)
	b.Shoot("10-result-run")
	looks("11-comparison", "/compare?job="+first+"&job="+second, `document.querySelectorAll("tbody tr").length > 5 && document.querySelectorAll(".trend").length > 0`)

	// The job ends while somebody looks.
	b.Do(chromedp.Navigate(s.url + "/"))
	b.Until(`document.querySelector("#running").innerText.includes("Llama-3.1-70B-Instruct")`)
	browser.Eval[bool](b, `window.sameDocument = true`)
	once.Do(func() { close(bench) })
	b.Until(`document.querySelector("#recent").innerText.includes("Mixtral-8x7B")`)
	b.Until(`document.querySelector("#running").innerText.includes("The machine is free")`)
	b.Until(`window.sameDocument`)
	b.Shoot("12-idle")
	looks("7-machine", "/machine", `document.querySelectorAll("#checks li").length === 3`)
	b.Contained(s.url)
}

// A thermalMachine is throttled by its hardware while it is hot.
type thermalMachine struct {
	integritytest.Fake
	hot   atomic.Bool
	begun time.Time
}

func (m *thermalMachine) State(ctx context.Context) (integrity.State, error) {
	s, err := m.Fake.State(ctx)
	s.BootID = "b"
	s.GPUs = []hwdetect.GPUCounters{{Index: 0, UUID: "GPU-0", HWThermal: new(time.Duration)}}
	if m.hot.Load() {
		*s.GPUs[0].HWThermal = time.Since(m.begun)
	}
	return s, err
}

// A hostile log is text: it runs nothing, turns nothing round, and stalls nothing.
func TestAHostileLog(t *testing.T) {
	b := browser.NewTab(t)
	const many = 100_000
	hostile := []string{
		`<img src=x onerror="window.attacked = 1"><script>window.attacked = 1</script>`,
		"\x1b[2J\x1b[31mred\x1b[0m and \x1b]0;title\x07plain",
		"moved \u202Eesrever\u202C and\u200B hidden",
		"long " + strings.Repeat("x", 1<<20),
		"after the long line",
		"data: x\\n\\nevent: end\\ndata: {}",
		"{{.Secret}} ${window} `x`",
		"שלום עולם",
		"\x00\x01nul",
	}
	s := serve(t, agent.Config{Runner: runnerFunc(func(ctx context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
		w := runner.OutputWriter(out)
		for _, line := range hostile {
			fmt.Fprintln(w, line)
		}
		var lines strings.Builder
		for i := range many {
			if i == many/2 {
				fmt.Fprintln(&lines, "RuntimeError: needle in the middle")
			}
			fmt.Fprintf(&lines, "line %d of a flood that goes on for long\n", i)
		}
		_, _ = w.Write([]byte(lines.String()))
		<-ctx.Done()
		return runner.Result{}, context.Cause(ctx)
	})}, everything(), "")
	id := s.submit("m")
	s.awaitState(id, agent.StateRunning)
	b.Do(chromedp.Navigate(s.url + "/jobs/" + id))
	browser.Eval[bool](b, `(() => {
		window.stalls = [];
		new PerformanceObserver((list) => list.getEntries().forEach((e) => window.stalls.push(e.duration))).observe({ type: "longtask", buffered: true });
		return true;
	})()`)
	all := fmt.Sprintf(`(document.querySelector("#log").lastElementChild?.textContent ?? "").includes("line %d of")`, many-1)
	b.Until(all)
	stalls := browser.Eval[[]float64](b, `window.stalls`)
	text := browser.Eval[string](b, `document.querySelector("#log").textContent.slice(0, 20000)`)
	lines := strings.Split(text, "\n")
	require.Contains(t, lines, hostile[0])
	require.Contains(t, lines, "red and plain")
	require.Contains(t, lines, "moved ‹202E›esrever‹202C› and‹200B› hidden")
	require.Contains(t, lines, "after the long line")
	require.Contains(t, lines, hostile[5])
	require.Contains(t, lines, "‹0000›‹0001›nul")
	long := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "long xxx") })
	require.Less(t, len(lines[long]), 5000)
	require.Contains(t, lines[long], " more characters")
	require.Equal(t, "after the long line", lines[long+1], "a line of many parts is one")
	require.False(t, browser.Eval[bool](b, `"attacked" in window || document.querySelector("#log img, #log script") !== null`))
	t.Logf("long tasks: %v", stalls)

	// The error is a press away, and so is any text.
	press := func(button string) {
		browser.Eval[bool](b, fmt.Sprintf(`document.querySelector("[%s]").click() || true`, button))
	}
	press("data-error-previous")
	b.Until(`document.querySelector("[data-said]").innerText.includes("Error 1 of 1")`)
	inSight := `(() => {
		const box = document.querySelector("#log").getBoundingClientRect();
		const at = [...CSS.highlights.get("found")][0].getBoundingClientRect();
		return at.top >= box.top && at.bottom <= box.bottom && at.height > 0;
	})()`
	b.Until(inSight)
	b.Shoot("20-error")
	browser.Eval[bool](b, `(() => {
		const field = document.querySelector("#log-find");
		field.value = "LINE 77777 ";
		return field.dispatchEvent(new Event("input"));
	})()`)
	b.Until(`document.querySelector("[data-said]").innerText.includes("Match 1 of 1")`)
	b.Until(inSight)
	require.Equal(t, "line 77777 ", browser.Eval[string](b, `[...CSS.highlights.get("found")][0].toString()`))

	// Reloaded in mid-job it is all there, once.
	b.Do(chromedp.Reload())
	b.Until(all)
	require.Equal(t, many+1+len(hostile), browser.Eval[int](b, `document.querySelector("#log").textContent.split("\n").filter((line) => line && !line.startsWith("▸ ")).length`))
	press("data-pause")
	b.Until(`document.querySelector("[data-state]").innerText.includes("Paused")`)
	b.Accessible()
	b.Contained(s.url)
}

// The page survives a restart of its agent in mid-job, with its log and its session.
func TestAcrossARestart(t *testing.T) {
	b := browser.NewTab(t)
	var mu sync.Mutex
	runs := 0
	more := make(chan struct{})
	cfg := agent.Config{Token: "a-token", Dir: t.TempDir(), Runner: resumable{runnerFunc(func(ctx context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
		mu.Lock()
		runs++
		run := runs
		mu.Unlock()
		fmt.Fprintf(runner.OutputWriter(out), "run %d\n", run)
		if run == 1 {
			<-ctx.Done()
			return runner.Result{}, context.Cause(ctx)
		}
		<-more
		fmt.Fprintln(runner.OutputWriter(out), "the end")
		return runner.Result{}, nil
	})}}
	s := serve(t, cfg, everything(), "")
	id := s.submit("m")
	s.awaitState(id, agent.StateRunning)

	b.Do(chromedp.Navigate(s.url + "/jobs/" + id))
	b.Until(`location.pathname === "/login" && document.activeElement?.id === "token"`)
	b.Accessible()
	for _, width := range []int64{1280, 375} {
		for _, dark := range []bool{false, true} {
			b.Dark(dark)
			b.Do(chromedp.EmulateViewport(width, 812))
			b.Shoot(fmt.Sprintf("0-login-%d-%v", width, dark))
		}
	}
	b.Do(chromedp.SendKeys(chromedp.CSS(`#token`), "wrong\r"))
	b.Until(`document.querySelector("#login-said").innerText.includes("not the agent's token")`)
	b.Do(chromedp.SendKeys(chromedp.CSS(`#token`), "a-token\r"))
	b.Until(fmt.Sprintf(`location.pathname === "/jobs/%s" && document.querySelector("#log").textContent.includes("run 1")`, id))
	require.Empty(t, browser.Eval[string](b, `document.cookie`), "no script sees it")
	browser.Eval[bool](b, `window.sameDocument = true`)

	s.stop()
	b.Until(`!document.querySelector("#connection").hidden`)
	again := serve(t, cfg, everything(), strings.TrimPrefix(s.url, "http://"))
	b.Until(`document.querySelector("#log").textContent.includes("run 2")`)
	b.Until(`document.querySelector("#connection").hidden`)
	close(more)
	b.Until(`document.querySelector("#log").textContent.includes("the end")`)
	b.Until(`document.querySelector("#state .status").innerText === "completed"`)
	require.True(t, browser.Eval[bool](b, `window.sameDocument`))
	require.Equal(t, 1, browser.Eval[int](b, `document.querySelector("#log").textContent.split("run 1").length - 1`))

	b.Do(chromedp.Click(chromedp.CSS(`[data-logout]`)))
	b.Until(`location.pathname === "/login"`)
	again.stop()
	refused := func(c string) bool { // while the agent was away, and for the wrong token
		return strings.Contains(c, "ERR_CONNECTION_REFUSED") || strings.Contains(c, "ERR_INCOMPLETE_CHUNKED_ENCODING") || strings.Contains(c, "ERR_EMPTY_RESPONSE") ||
			strings.Contains(c, "ERR_CONNECTION_RESET") || strings.Contains(c, "status of 401") || strings.Contains(c, "status of 503")
	}
	b.Contained(s.url, refused)
}

// resumable lets a run go on after its agent.
type resumable struct{ runnerFunc }

func (r resumable) Resume(ctx context.Context, job runner.Job, _ runner.Position, out runner.Output) (runner.Result, error) {
	return r.runnerFunc(ctx, job, out)
}

// A job is cancelled by keyboard, after a question.
func TestCancelByKeyboard(t *testing.T) {
	b := browser.NewTab(t)
	s := serve(t, agent.Config{Detector: &hwdetect.Static{Machine: machine(t)}}, everything(), "")
	id := s.submit("some/model")
	s.awaitState(id, agent.StateRunning)
	b.Do(chromedp.Navigate(s.url + "/"))
	b.Until(`document.querySelector("[data-cancel]") !== null`)
	browser.Eval[bool](b, `document.querySelector("[data-cancel]").focus() || true`)
	b.Do(chromedp.KeyEvent("\r"))
	b.Until(`document.querySelector("#ask").open && document.activeElement.hasAttribute("data-no")`)
	b.Shoot("30-cancel")
	b.Do(chromedp.KeyEvent("\r"))
	b.Until(`!document.querySelector("#ask").open`)
	j, err := s.agent.Job(id)
	require.NoError(t, err)
	require.Equal(t, agent.StateRunning, j.State, "the question's first answer is no")
	browser.Eval[bool](b, `document.querySelector("[data-cancel]").focus() || true`)
	b.Do(chromedp.KeyEvent("\r"))
	b.Until(`document.querySelector("#ask").open`)
	browser.Eval[bool](b, `document.querySelector("[data-yes]").focus() || true`)
	b.Do(chromedp.KeyEvent("\r"))
	b.Until(`document.querySelector("#connection").innerText === "The job was cancelled"`)
	b.Until(`document.querySelector("#recent").innerText.includes("cancelled")`)
	b.Contained(s.url)
}

// What a screen reader gets of the first view: headings, landmarks, names of all
// controls, and no live region that speaks with each reading.
func TestAccessibilityTree(t *testing.T) {
	b := browser.NewTab(t)
	s := serve(t, agent.Config{Detector: busyGPUs(t)}, everything(), "")
	id := s.submit("some/model")
	s.awaitState(id, agent.StateRunning)
	for _, path := range append(views, "/jobs/"+id) {
		b.Do(chromedp.Navigate(s.url + path))
		b.Until(`document.querySelector("#who .status").innerText === "running"`)
		tree, err := chromedp.Call(b.Ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		require.NoError(t, err)
		roles := map[string][]string{}
		for _, n := range tree.Nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			name := ""
			if n.Name != nil {
				require.NoError(t, json.Unmarshal(n.Name.Value, &name))
			}
			var role string
			require.NoError(t, json.Unmarshal(n.Role.Value, &role))
			roles[role] = append(roles[role], name)
			switch role {
			case "link", "button", "heading", "img", "meter", "progressbar", "searchbox", "checkbox", "radio", "region", "navigation":
				require.NotEmpty(t, strings.TrimSpace(name), "a %s of %s has no name", role, path)
			}
		}
		require.Len(t, roles["main"], 1, path)
		require.Contains(t, roles["navigation"], "Views")
		require.NotEmpty(t, roles["heading"], path)
		live := browser.Eval[[]string](b, `[...document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]")].map((e) => e.id || e.dataset.said === "" && "said")`)
		for _, each := range live {
			require.Contains(t, []string{"connection", "chart-said", "said"}, each, path)
		}
		levels := browser.Eval[[]float64](b, `[...document.querySelectorAll("h1, h2, h3, h4")].filter((e) => e.checkVisibility()).map((e) => Number(e.tagName[1]))`)
		require.InDelta(t, 1, levels[0], 0, path)
		for i := 1; i < len(levels); i++ {
			require.LessOrEqual(t, levels[i]-levels[i-1], 1.0, "a level is left out on %s: %v", path, levels)
		}
	}
	b.Contained(s.url)
}
