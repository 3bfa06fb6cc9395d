package agent

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Guard returns a handler that hands on to next what the agent's API would look at, and
// refuses with 403 or 415 what Handler refuses on every route. It is for pages that are
// served in addition to the API, wherever they are mounted.
func (a *Agent) Guard(next http.Handler) http.Handler { return (&api{a}).guard(next) }

// Admits reports whether the API lets the caller of r in: r presents the token, or the
// agent has none and the caller is on this machine. A refusal goes into the audit trail.
func (a *Agent) Admits(r *http.Request) bool { return (&api{a}).refusal(r) == "" }

// CallerToken returns the token that callers of the API present now; empty if there is
// none.
func (a *Agent) CallerToken() Secret { return a.token.get() }

// refusal returns why the caller of r is not let in; empty if it is.
func (a *api) refusal(r *http.Request) string {
	switch {
	case a.cfg.Token == "" && !fromThisMachine(r):
		a.audit.refusedRequest(r, "the agent has no token, and the caller is not on this machine")
		return "Unauthorized: this agent has no token, so it takes commands from its own machine only"
	case a.cfg.Token != "" && !a.token.presents(r):
		a.audit.refusedRequest(r, "the caller does not present the agent's token")
		return "Unauthorized"
	}
	return ""
}

// guard refuses what a web page of another origin makes a browser send, before
// any route sees it. Such a page can reach every address that the browser can,
// and by DNS rebinding it does so under a name of its own (RFC 6454 compares
// names, not addresses). So the API answers only to names that are the agent's.
func (a *api) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, reason := a.objection(r)
		if status == 0 {
			next.ServeHTTP(w, r)
			return
		}
		a.notices.LogOnce(fmt.Sprint("API request refused ", status), func() {
			a.cfg.Logger.WarnContext(r.Context(), "API request refused", "reason", reason, "from", r.RemoteAddr,
				"host", base.Printable(r.Host, 200), "origin", base.Printable(r.Header.Get("Origin"), 200))
		})
		a.audit.refusedRequest(r, reason)
		fail(w, status, reason)
	})
}

// objection returns the status and the text with which a request is refused, and
// 0 if there is nothing against it.
func (a *api) objection(r *http.Request) (status int, reason string) {
	switch {
	case slices.ContainsFunc(r.Header.Values("Sec-Fetch-Site"), isForeignSite),
		slices.ContainsFunc(r.Header.Values("Origin"), func(origin string) bool { return isForeignOrigin(origin, r) }):
		return http.StatusForbidden, "Forbidden: the request comes from a web page that is not the agent's"
	case (a.cfg.Token == "" || fromBrowser(r)) && !overUnixSocket(r) && !a.answersTo(hostName(r.Host)):
		return http.StatusForbidden, fmt.Sprintf("Forbidden: the agent does not answer to the name %q; "+
			"use its address, or add the name to allowed_hosts in agent.yaml", base.Printable(hostName(r.Host), 200))
	case r.ContentLength != 0 && !isJSON(r):
		return http.StatusUnsupportedMediaType, "Invalid JSON body: send it with the header Content-Type: application/json"
	}
	return 0, ""
}

// isForeignSite reports whether a value of Sec-Fetch-Site (W3C Fetch Metadata)
// means that another site's page is behind the request.
func isForeignSite(site string) bool { return site != "none" && site != "same-origin" }

// isForeignOrigin reports whether origin is not the one that r was sent to (RFC
// 6454). Without TLS here, a proxy in front may have ended it.
func isForeignOrigin(origin string, r *http.Request) bool {
	return !strings.EqualFold(origin, "https://"+r.Host) && (r.TLS != nil || !strings.EqualFold(origin, "http://"+r.Host))
}

// fromBrowser reports whether a browser may have sent the request. The headers
// are those that browsers add themselves. A page can change the values of some,
// but cannot leave them out.
func fromBrowser(r *http.Request) bool {
	for name := range r.Header {
		switch {
		case name == "Origin", name == "Accept-Language", name == "Referer", name == "Cookie", strings.HasPrefix(name, "Sec-"):
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// answersTo reports whether host is a name under which the agent serves its API:
// any address, localhost, the machine's own name, or one of Config.AllowedHosts.
// A request without a name is HTTP/1.0, which no browser speaks.
func (a *api) answersTo(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	names := append([]string{"localhost"}, a.cfg.AllowedHosts...)
	if machine, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(machine, ".")
		names = append(names, machine, short)
	}
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) })
}

// hostName returns the name or address in a Host header, without the port, the
// brackets of IPv6 and the dot at the end.
func hostName(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return strings.TrimSuffix(host, ".")
}

// isJSON reports whether the request's body is declared as JSON. Browsers send
// that to another origin only after asking for permission, which no route gives.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// fromThisMachine reports whether a request comes over loopback or over a Unix
// socket.
func fromThisMachine(r *http.Request) bool {
	if overUnixSocket(r) {
		return true
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// overUnixSocket reports whether a request comes over a Unix socket, which no
// browser opens.
func overUnixSocket(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}
