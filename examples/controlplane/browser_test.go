package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// findChrome returns the browser that CHROME names, or one that is installed.
// Where KITT_TEST_BROWSER is set there has to be one.
func findChrome(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		require.NotEqual(t, os.Getenv("CHROME"), name, "CHROME names no program")
	}
	require.Empty(t, os.Getenv("KITT_TEST_BROWSER"), "there is no browser")
	t.Skip("NO BROWSER: the page goes untested. Install chromium, or set CHROME to a browser's path.")
	return ""
}

// A tab is one page of a real browser, with all that it complained of.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	asked      []string // URLs
}

func newTab(t *testing.T, more ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	path := findChrome(t)
	options := append(append(chromedp.DefaultExecAllocatorOptions[:], more...),
		chromedp.ExecPath(path), chromedp.WindowSize(1280, 900),
		// Containers and root have no user namespaces for its sandbox, and it
		// visits nothing here but this test's own server.
		chromedp.NoSandbox,
	)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser is gone
		cancel()
	})
	b := &tab{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
		case *log.EventEntryAdded:
			b.complaints = append(b.complaints, fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *network.EventRequestWillBeSent:
			b.asked = append(b.asked, e.Request.URL)
		}
	}))
	enable(b, log.Enable)
	enable(b, network.Enable)
	enable(b, runtime.Enable)
	return b
}

// enable has the browser tell of one kind of event.
func enable[P, R any](b *tab, command cdp.Command[P, R]) {
	b.t.Helper()
	var none P
	_, err := chromedp.Call(b.ctx, command, none)
	require.NoError(b.t, err)
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, actions...))
}

// eval returns what an expression of JavaScript comes to.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return v
}

// until waits until an expression of JavaScript is true on the page, which may
// be another one by then.
func (b *tab) until(expression string) {
	b.t.Helper()
	var err error
	is := func() bool {
		var yes bool
		yes, err = chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		return err == nil && yes // between two pages it fails
	}
	for deadline := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(deadline) || b.ctx.Err() != nil {
			require.FailNow(b.t, "it never came: "+expression, "%v on\n%s", err, eval[string](b, `document.body.innerText`))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// shoot takes a picture of the page into the directory that KITT_SCREENSHOTS
// names, for people to look at.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("KITT_SCREENSHOTS")
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NotEmpty(b.t, picture)
	if dir != "" {
		require.NoError(b.t, os.MkdirAll(dir, 0o755))
		require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
	}
}

// accessible checks what a machine can check: every control has a name, every
// page one h1 and a language, every id is there once.
func (b *tab) accessible() {
	b.t.Helper()
	faults := eval[[]string](b, `(() => {
		const faults = [];
		for (const c of document.querySelectorAll("input, select, button, a")) {
			const name = c.labels?.[0]?.textContent || c.textContent || c.getAttribute("aria-label");
			if (!name.trim()) faults.push("no name: " + c.outerHTML);
		}
		if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
		if (!document.documentElement.lang) faults.push("no language");
		const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
		if (new Set(ids).size !== ids.length) faults.push("ids: " + ids);
		for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
			const id = e.getAttribute("aria-labelledby") || e.getAttribute("aria-describedby");
			if (!document.getElementById(id)) faults.push("nothing has the id " + id);
		}
		if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
		return faults;
	})()`)
	require.Empty(b.t, faults)
}

// TestInABrowser does what somebody does with the page: creates a test agent,
// launches a quick test, watches its log while it runs, and reads its result.
func TestInABrowser(t *testing.T) {
	b := newTab(t)
	// The run stops after some lines until the page has shown them.
	const before = 6
	goOn := make(chan struct{})
	var mu sync.Mutex
	pauses := 0
	address := serve(t, kittapitest.Config{TestAgents: simulated.Config{
		Speed: 1,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			mu.Lock()
			pauses++
			wait := pauses == before
			mu.Unlock()
			if !wait {
				return nil
			}
			select {
			case <-goOn:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
	}})

	b.do(chromedp.Navigate(address))
	b.until(`document.body.innerText.includes("No agent has registered yet")`)
	b.accessible()
	b.shoot("1-empty")

	b.do(chromedp.Click(chromedp.CSS(`a.button`)), chromedp.WaitVisible(chromedp.CSS(`#name`)))
	b.accessible()
	b.shoot("2-form")
	b.do(
		chromedp.SendKeys(chromedp.CSS(`#name`), "rig/1"),
		chromedp.SetValue(chromedp.CSS(`#gpu_info`), "NVIDIA H100 80GB HBM3 80GB"),
		chromedp.SetValue(chromedp.CSS(`#gpu_count`), "2"),
		chromedp.SetValue(chromedp.CSS(`#ram_gb`), "512"),
		chromedp.Click(chromedp.CSS(`form button`)),
	)
	b.until(`document.querySelector("#name").validity.patternMismatch`) // the browser itself objects
	b.do(chromedp.SetValue(chromedp.CSS(`#name`), "rig-1"), chromedp.Click(chromedp.CSS(`form button`)))
	b.until(`location.pathname.startsWith("/agents/") && document.querySelector("h1").innerText.includes("TEST")`)
	b.until(`document.querySelector("#agent").innerText.includes("2 × NVIDIA H100 80GB HBM3 80GB")`)
	b.accessible()
	b.shoot("3-agent")

	b.do(chromedp.SendKeys(chromedp.CSS(`#model`), "Llama-3.1-70B-Instruct"), chromedp.SetValue(chromedp.CSS(`#suite`), "standard"), chromedp.Click(chromedp.CSS(`form button`)))
	b.until(`location.pathname.startsWith("/tests/")`)
	b.until(`document.querySelector("#log").innerText.includes("Detecting hardware")`)
	b.until(`document.querySelector("#state .status").innerText === "running"`)
	eval[bool](b, `window.sameDocument = true`)
	b.accessible()
	b.shoot("4-running")

	close(goOn)
	b.until(`document.querySelector("#log").innerText.includes("Result saved for Llama-3.1-70B-Instruct on vllm")`)
	b.until(`document.querySelector("#state .status").innerText === "completed"`)
	b.until(`document.querySelector("#outcome").innerText.includes("ttft_ms p50")`)
	test := eval[string](b, `location.pathname`)
	b.until(`window.sameDocument`) // all that came without loading the page again
	shown := eval[int](b, `document.querySelector("#log").textContent.split("\n").length - 1`)
	lines := eval[[]string](b, `fetch("/api/v1/quicktest/" + location.pathname.split("/")[2] + "/logs")
		.then((a) => a.json()).then((a) => a.lines.map((l) => l.line))`)
	require.Len(t, lines, shown, "each line once")
	b.accessible()
	b.shoot("5-completed")

	b.do(chromedp.Navigate(address+"/results"), chromedp.WaitVisible(chromedp.CSS(`#results table`)))
	b.accessible()
	b.shoot("6-results")
	b.do(chromedp.Click(chromedp.CSS(`#results tbody a`)), chromedp.WaitVisible(chromedp.CSS(`.figures`)))
	b.accessible()

	// An agent that registers shows up on a page that is open.
	b.do(chromedp.Navigate(address), chromedp.WaitVisible(chromedp.CSS(`#agents table`)))
	b.until(`document.querySelectorAll("#agents .badge").length === 1`)
	eval[bool](b, `fetch("/api/v1/agents/register", {method: "POST", headers: {"Content-Type": "application/json"},
		body: JSON.stringify({name: "gpu-01", hostname: "gpu-01", gpu_info: "NVIDIA L4 24GB", gpu_count: 1, ram_gb: 64})}).then(() => true)`)
	b.until(`document.querySelector("#agents").innerText.includes("gpu-01")`)
	b.until(`document.querySelectorAll("#agents .badge").length === 1`)
	b.accessible()
	b.shoot("7-agents")
	b.do(chromedp.EmulateViewport(390, 844))
	b.shoot("8-narrow")
	b.accessible()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
	require.NoError(t, err)
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address+test), chromedp.WaitVisible(chromedp.CSS(`#outcome h2`)))
	b.shoot("9-dark")

	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.complaints)
	require.NotEmpty(t, b.asked)
	for _, asked := range b.asked {
		require.Contains(t, asked, address+"/", "nothing comes from elsewhere")
	}
}
