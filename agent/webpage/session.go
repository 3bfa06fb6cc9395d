package webpage

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	sessionFor = 12 * time.Hour // after which somebody has to log in again
	maxLogin   = 8 << 10        // bytes of a login
	maxCookie  = 512            // bytes of a cookie that is looked at
)

// A session is who is let in.
type session struct {
	csrf    string
	expires time.Time // zero if there was no login, since the agent has no token
}

// admit returns the session of the caller of r, and whether it is let in.
func (p *Page) admit(r *http.Request) (session, bool) {
	token := p.a.CallerToken()
	if token == "" {
		return session{csrf: mac(p.keyless, "csrf")}, p.a.Admits(r)
	}
	cookie, err := r.Cookie(p.cookie())
	if err != nil || len(cookie.Value) > maxCookie {
		return session{}, false
	}
	end, rest, _ := strings.Cut(cookie.Value, ".")
	nonce, sum, _ := strings.Cut(rest, ".")
	key := p.sessionKey(token.Reveal())
	if !equal(sum, mac(key, "session", end, nonce)) {
		return session{}, false
	}
	seconds, err := strconv.ParseInt(end, 10, 64)
	expires := time.Unix(seconds, 0)
	if err != nil || !time.Now().Before(expires) {
		return session{}, false
	}
	return session{csrf: mac(key, "csrf", end, nonce), expires: expires}, true
}

// sessionKey returns the key of sessions under a token.
func (p *Page) sessionKey(token string) []byte {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte("kitt-agent page"))
	return h.Sum(nil)
}

// mac returns the MAC of texts that have no dot.
func mac(key []byte, texts ...string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.Join(texts, ".")))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// equal compares in a time that tells nothing about want.
func equal(got, want string) bool { return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 }

// cookieName returns a name of this agent's own: a browser sends the cookies of a host to
// all of its ports, and at the end of tunnels there are several agents on one.
func (p *Page) cookieName() string {
	sum := sha256.Sum256([]byte(p.a.Status().Name + "\n" + p.cfg.Prefix))
	return "kitt-agent-" + hex.EncodeToString(sum[:4])
}

// A login is what the page of the login shows.
type login struct {
	Next      string // where to go afterwards
	Plain     bool   // whether the token would be sent over a network in the clear
	Tokenless bool   // the agent has no token, and the caller is on another machine
}

func (p *Page) loginFrame(r *http.Request) frame {
	next := r.URL.Query().Get("next")
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		next = p.cfg.Prefix + "/"
	}
	return frame{Base: p.cfg.Prefix, Here: "login", Now: time.Now(), View: login{
		Next: next, Plain: r.TLS == nil && !isLoopback(r.RemoteAddr), Tokenless: p.a.CallerToken() == "",
	}}
}

// nextPage returns the query by which the login leads back to what r asked for.
func nextPage(r *http.Request) string { return url.Values{"next": {r.URL.RequestURI()}}.Encode() }

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (p *Page) getLogin(w http.ResponseWriter, r *http.Request) {
	f := p.loginFrame(r)
	if _, ok := p.admit(r); ok {
		http.Redirect(w, r, f.View.(login).Next, http.StatusSeeOther)
		return
	}
	p.pages.Show(w, http.StatusOK, "login", f)
}

// postLogin exchanges the agent's token for a cookie.
func (p *Page) postLogin(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin)).Decode(&body); err != nil {
		http.Error(w, "Invalid JSON body", http.StatusBadRequest)
		return
	}
	if p.a.CallerToken() == "" {
		http.Error(w, "This agent has no token to log in with", http.StatusNotFound)
		return
	}
	presented := r.Clone(r.Context())
	presented.Header.Set("Authorization", "Bearer "+strings.TrimSpace(body.Token))
	// That may also be what makes the agent read its token again. Only then is the token
	// the one that sessions come from.
	if !p.a.Admits(presented) {
		http.Error(w, "This is not the agent's token. It is the value of token in agent.yaml.", http.StatusUnauthorized)
		return
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	expires := time.Now().Add(sessionFor)
	end, text := strconv.FormatInt(expires.Unix(), 10), base64.RawURLEncoding.EncodeToString(nonce)
	p.setCookie(w, r, end+"."+text+"."+mac(p.sessionKey(p.a.CallerToken().Reveal()), "session", end, text), expires)
	w.WriteHeader(http.StatusNoContent)
}

func (p *Page) postLogout(w http.ResponseWriter, r *http.Request) {
	p.setCookie(w, r, "", time.Unix(1, 0))
	w.WriteHeader(http.StatusNoContent)
}

func (p *Page) setCookie(w http.ResponseWriter, r *http.Request, value string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: p.cookie(), Value: value, Path: p.cfg.Prefix + "/", Expires: expires,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// postCancel cancels a job, as POST /api/commands does.
func (p *Page) postCancel(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(map[string]any{"type": "cancel", "payload": map[string]string{"command_id": r.PathValue("id")}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	to := p.asAPI(r, "/api/commands")
	setBody(to, body)
	p.api.ServeHTTP(w, to)
}
