package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/browser"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// TestInABrowser does what somebody does with the page: creates a test agent,
// launches a quick test, watches its log while it runs, and reads its result.
func TestInABrowser(t *testing.T) {
	b := browser.NewTab(t)
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

	b.Do(chromedp.Navigate(address))
	b.Until(`document.body.innerText.includes("No agent has registered yet")`)
	b.Accessible()
	b.Shoot("1-empty")

	b.Do(chromedp.Click(chromedp.CSS(`a.button`)), chromedp.WaitVisible(chromedp.CSS(`#name`)))
	b.Accessible()
	b.Shoot("2-form")
	b.Do(
		chromedp.SendKeys(chromedp.CSS(`#name`), "rig/1"),
		chromedp.SetValue(chromedp.CSS(`#gpu_info`), "NVIDIA H100 80GB HBM3 80GB"),
		chromedp.SetValue(chromedp.CSS(`#gpu_count`), "2"),
		chromedp.SetValue(chromedp.CSS(`#ram_gb`), "512"),
		chromedp.Click(chromedp.CSS(`form button`)),
	)
	b.Until(`document.querySelector("#name").validity.patternMismatch`) // the browser itself objects
	b.Do(chromedp.SetValue(chromedp.CSS(`#name`), "rig-1"), chromedp.Click(chromedp.CSS(`form button`)))
	b.Until(`location.pathname.startsWith("/agents/") && document.querySelector("h1").innerText.includes("TEST")`)
	b.Until(`document.querySelector("#agent").innerText.includes("2 × NVIDIA H100 80GB HBM3 80GB")`)
	b.Accessible()
	b.Shoot("3-agent")

	b.Do(chromedp.SendKeys(chromedp.CSS(`#model`), "Llama-3.1-70B-Instruct"), chromedp.SetValue(chromedp.CSS(`#suite`), "standard"), chromedp.Click(chromedp.CSS(`form button`)))
	b.Until(`location.pathname.startsWith("/tests/")`)
	b.Until(`document.querySelector("#log").innerText.includes("Detecting hardware")`)
	b.Until(`document.querySelector("#state .status").innerText === "running"`)
	browser.Eval[bool](b, `window.sameDocument = true`)
	b.Accessible()
	b.Shoot("4-running")

	close(goOn)
	b.Until(`document.querySelector("#log").innerText.includes("Result saved for Llama-3.1-70B-Instruct on vllm")`)
	b.Until(`document.querySelector("#state .status").innerText === "completed"`)
	b.Until(`document.querySelector("#outcome").innerText.includes("ttft_ms p50")`)
	test := browser.Eval[string](b, `location.pathname`)
	b.Until(`window.sameDocument`) // all that came without loading the page again
	shown := browser.Eval[int](b, `document.querySelector("#log").textContent.split("\n").length - 1`)
	lines := browser.Eval[[]string](b, `fetch("/api/v1/quicktest/" + location.pathname.split("/")[2] + "/logs")
		.then((a) => a.json()).then((a) => a.lines.map((l) => l.line))`)
	require.Len(t, lines, shown, "each line once")
	b.Accessible()
	b.Shoot("5-completed")

	b.Do(chromedp.Navigate(address+"/results"), chromedp.WaitVisible(chromedp.CSS(`#results table`)))
	b.Accessible()
	b.Shoot("6-results")
	b.Do(chromedp.Click(chromedp.CSS(`#results tbody a`)), chromedp.WaitVisible(chromedp.CSS(`.figures`)))
	b.Accessible()

	// An agent that registers shows up on a page that is open.
	b.Do(chromedp.Navigate(address), chromedp.WaitVisible(chromedp.CSS(`#agents table`)))
	b.Until(`document.querySelectorAll("#agents .badge").length === 1`)
	browser.Eval[bool](b, `fetch("/api/v1/agents/register", {method: "POST", headers: {"Content-Type": "application/json"},
		body: JSON.stringify({name: "gpu-01", hostname: "gpu-01", gpu_info: "NVIDIA L4 24GB", gpu_count: 1, ram_gb: 64})}).then(() => true)`)
	b.Until(`document.querySelector("#agents").innerText.includes("gpu-01")`)
	b.Until(`document.querySelectorAll("#agents .badge").length === 1`)
	b.Accessible()
	b.Shoot("7-agents")
	b.Do(chromedp.EmulateViewport(390, 844))
	b.Shoot("8-narrow")
	b.Accessible()
	b.Dark(true)
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address+test), chromedp.WaitVisible(chromedp.CSS(`#outcome h2`)))
	b.Shoot("9-dark")

	b.Contained(address)
}
