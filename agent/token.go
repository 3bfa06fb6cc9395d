package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"
)

// A callerToken is what callers of the API present. Its methods are safe for concurrent
// use.
type callerToken struct {
	readAgain func() Secret // nil if the token does not change

	mu   sync.Mutex
	now  Secret    // in force. guarded by mu
	read time.Time // when it was read last. guarded by mu
}

// readTokenEvery is the least time between two readings of the token: each wrong guess
// of a caller asks for one.
const readTokenEvery = time.Second

// get returns the token in force.
func (t *callerToken) get() Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// presents reports whether a request bears the token. With another one, the token is
// read again: it may have been replaced.
func (t *callerToken) presents(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	return bears(header, t.get()) || header != "" && t.reread() && bears(header, t.get())
}

// reread reads the token again, unless that was just done, and reports whether it has
// changed.
func (t *callerToken) reread() bool {
	if t.readAgain == nil {
		return false
	}
	t.mu.Lock()
	due := t.read.IsZero() || time.Since(t.read) >= readTokenEvery
	if due {
		t.read = time.Now()
	}
	t.mu.Unlock()
	if !due {
		return false
	}
	fresh := t.readAgain()
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := fresh != "" && fresh != t.now // without a token anybody on this machine would be let in
	if changed {
		t.now = fresh
	}
	return changed
}

// bears reports whether a header bears the token. Digests are compared, so that the time
// taken tells nothing about the token, its length included.
func bears(header string, token Secret) bool {
	want := sha256.Sum256([]byte("Bearer " + string(token)))
	got := sha256.Sum256([]byte(header))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
