package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/internal/browser"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// attacker is a name that the browser resolves to this machine, as one does
// whose owner rebinds it.
const attacker = "attacker.test"

// withAttacker is the option by which the browser does so.
var withAttacker = chromedp.Flag("host-resolver-rules", "MAP "+attacker+" 127.0.0.1")

// everyRouteRefuses is what attack comes to in a page whose name was rebound.
var everyRouteRefuses = []string{
	"POST /api/commands 403", "GET /api/status 403", "GET /api/logs/aa 403", "GET /api/engines 403", "GET /healthz 403", "POST /api/stop 403",
}

// TestAPageOfAnotherSiteCannotCommandAnAgent opens pages of an attacker in a
// browser on the machine of an agent without a token.
func TestAPageOfAnotherSiteCannotCommandAnAgent(t *testing.T) {
	b := browser.NewTab(t, withAttacker)
	a, port := rebind(b, "")
	require.Equal(t, everyRouteRefuses, browser.Eval[[]string](b, attack("", "application/json")))

	elsewhere := servePage(t)
	for _, page := range []string{strings.Replace(elsewhere.Addr, "127.0.0.1", attacker, 1), elsewhere.Addr} {
		for _, host := range []string{"127.0.0.1", "localhost", attacker} {
			target := net.JoinHostPort(host, port)
			for _, kind := range []string{"application/json", "text/plain"} {
				open(b, page)
				for _, outcome := range browser.Eval[[]string](b, attack("http://"+target, kind)) {
					require.NotRegexp(t, ` 2\d\d$`, outcome, "%s at %s", page, target)
				}
			}
			browser.Eval[bool](b, fmt.Sprintf(`(() => {
				const form = document.body.appendChild(document.createElement("form"));
				Object.assign(form, {method: "POST", action: "http://%s/api/stop", enctype: "text/plain"});
				const field = form.appendChild(document.createElement("input"));
				Object.assign(field, {name: '{"mode":"cancel","x":"', value: '"}'});
				form.submit();
				return true;
			})()`, target))
			b.Until(`document.body.innerText.includes("{")`)
			require.Contains(t, browser.Eval[string](b, `document.body.innerText`), "Forbidden")
		}
	}
	require.Empty(t, a.Jobs(), "no page started one")
	require.NoError(t, a.Alive(), "no page stopped it")

	// Who opens the agent's own address sees what it says.
	b.Do(chromedp.Navigate("http://" + net.JoinHostPort("127.0.0.1", port) + "/api/status"))
	b.Until(`document.body.innerText.includes('"name":"gpu-1"')`)
}

// With a token, too, no page reads what needs none.
func TestARebindingPageReadsNothingOfAnAgentWithAToken(t *testing.T) {
	b := browser.NewTab(t, withAttacker)
	rebind(b, "a-token-that-the-page-does-not-know")
	require.Equal(t, everyRouteRefuses, browser.Eval[[]string](b, attack("", "application/json")))
}

// rebind opens a page of the attacker's whose name then leads to an agent that
// this starts: the page comes from the port that the agent then listens on.
func rebind(b *browser.Tab, token agent.Secret) (a *agent.Agent, port string) {
	b.T.Helper()
	before := servePage(b.T)
	_, port, err := net.SplitHostPort(before.Addr)
	require.NoError(b.T, err)
	open(b, net.JoinHostPort(attacker, port))
	require.NoError(b.T, before.Close())

	listener, err := net.Listen("tcp", before.Addr)
	require.NoError(b.T, err)
	run, err := simulated.New(simulated.Config{Speed: 1000})
	require.NoError(b.T, err)
	a, err = agent.New(agent.Config{Name: "gpu-1", Dir: b.T.TempDir(), Server: &agenttest.Server{}, Runner: run, Listener: listener, Token: token})
	require.NoError(b.T, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.T.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.T.Cleanup(func() {
		cancel()
		require.NoError(b.T, <-ended)
	})
	<-a.Ready()
	return a, port
}

// open opens the attacker's page at an address.
func open(b *browser.Tab, address string) {
	b.T.Helper()
	b.Do(chromedp.Navigate("http://" + address))
	b.Until(`document.title === "attack"`)
}

// attack returns JavaScript that tries the routes of the agent at base, the
// commands first, and comes to what each answered: its status, or that the
// browser shows none.
func attack(base, kind string) string {
	return fmt.Sprintf(`(async () => {
		const outcomes = [];
		const tries = [["POST", "/api/commands", {type: "run_test", command_id: "aa", payload: {model_path: "m"}}],
			["GET", "/api/status"], ["GET", "/api/logs/aa"], ["GET", "/api/engines"], ["GET", "/healthz"], ["POST", "/api/stop", {mode: "cancel"}]];
		for (const [method, path, body] of tries) {
			const request = {method, body: body && JSON.stringify(body), headers: body && {"Content-Type": %[2]q}};
			if (%[1]q && %[2]q === "text/plain") request.mode = "no-cors";
			const answer = await fetch(%[1]q + path, request).then((a) => a.status, () => "none");
			outcomes.push(method + " " + path + " " + answer);
		}
		return outcomes;
	})()`, base, kind)
}

// servePage serves an empty page of the attacker's.
func servePage(t *testing.T) *http.Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Addr: listener.Addr().String(), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>attack</title><body>"))
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return server
}
