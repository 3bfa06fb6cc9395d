// Package browser drives a real browser, for tests of pages. It skips the test where
// there is none.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// A Tab is one page of a real browser, with all that it complained of.
type Tab struct {
	T   *testing.T
	Ctx context.Context

	mu         sync.Mutex
	complaints []string
	asked      []string // URLs
}

// NewTab opens a page in a browser that ends with the test.
func NewTab(t *testing.T, more ...chromedp.ExecAllocatorOption) *Tab {
	t.Helper()
	path := findChrome(t)
	options := append(append(chromedp.DefaultExecAllocatorOptions[:], more...),
		chromedp.ExecPath(path), chromedp.WindowSize(1280, 900),
		// Containers and root have no user namespaces for its sandbox, and it
		// visits nothing here but this test's own server.
		chromedp.NoSandbox,
	)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser is gone
		cancel()
	})
	b := &Tab{T: t, Ctx: ctx}
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
func enable[P, R any](b *Tab, command cdp.Command[P, R]) {
	b.T.Helper()
	var none P
	_, err := chromedp.Call(b.Ctx, command, none)
	require.NoError(b.T, err)
}

// Do does something in the browser.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	require.NoError(b.T, chromedp.Do(b.Ctx, actions...))
}

// Eval returns what an expression of JavaScript comes to.
func Eval[T any](b *Tab, expression string) T {
	b.T.Helper()
	v, err := chromedp.Run(b.Ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.T, err, expression)
	return v
}

// Until waits until an expression of JavaScript is true on the page, which may
// be another one by then.
func (b *Tab) Until(expression string) {
	b.T.Helper()
	var err error
	is := func() bool {
		var yes bool
		yes, err = chromedp.Run(b.Ctx, chromedp.Evaluate[bool](expression))
		return err == nil && yes // between two pages it fails
	}
	for deadline := time.Now().Add(90 * time.Second); !is(); {
		if time.Now().After(deadline) || b.Ctx.Err() != nil {
			require.FailNow(b.T, "it never came: "+expression, "%v on\n%s\ncomplaints: %q", err, Eval[string](b, `document.body.innerText`), b.Complaints())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Complaints returns what the browser complained of: errors of scripts, and what it
// logged.
func (b *Tab) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.complaints)
}

// Shoot takes a picture of the page into the directory that KITT_SCREENSHOTS
// names, for people to look at.
func (b *Tab) Shoot(name string) {
	b.T.Helper()
	dir := os.Getenv("KITT_SCREENSHOTS")
	picture, err := chromedp.Run(b.Ctx, chromedp.FullScreenshot(100))
	require.NoError(b.T, err)
	require.NotEmpty(b.T, picture)
	if dir != "" {
		require.NoError(b.T, os.MkdirAll(dir, 0o755))
		require.NoError(b.T, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
	}
}

// Accessible checks what a machine can check: every control has a name, every
// page one h1 and a language, every id is there once.
func (b *Tab) Accessible() {
	b.T.Helper()
	faults := Eval[[]string](b, `(() => {
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
			for (const id of ["aria-labelledby", "aria-describedby"].flatMap((name) => (e.getAttribute(name) ?? "").split(" ").filter(Boolean))) {
				if (!document.getElementById(id)) faults.push("nothing has the id " + id);
			}
		}
		if (document.documentElement.scrollWidth > innerWidth) {
			const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .log, nav"));
			faults.push("wider than the window: " + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)));
		}
		return faults;
	})()`)
	require.Empty(b.T, faults)
}

// Dark makes pages see that their reader prefers dark colours, or light ones.
func (b *Tab) Dark(dark bool) {
	b.T.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(b.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(b.T, err)
}

// Contained checks that the browser complained of nothing, but for what allowed accepts,
// and made requests to the server at address alone.
func (b *Tab) Contained(address string, allowed ...func(complaint string) bool) {
	b.T.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	complaints := slices.DeleteFunc(slices.Clone(b.complaints), func(c string) bool {
		return slices.ContainsFunc(allowed, func(allows func(string) bool) bool { return allows(c) })
	})
	require.Empty(b.T, complaints)
	require.NotEmpty(b.T, b.asked)
	for _, asked := range b.asked {
		require.Contains(b.T, asked, address+"/", "nothing comes from elsewhere")
	}
}
