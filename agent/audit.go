package agent

import (
	"cmp"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// maxAudited bounds each text of an entry of the audit trail, in bytes.
const maxAudited = 256

// An auditor hands entries of the audit trail to Config.Audit. Its methods are safe for
// concurrent use.
type auditor struct {
	write   func(policy.Entry) // nil writes none
	secrets logstream.Redactor

	mu      sync.Mutex
	minute  time.Time // in which refused requests are counted. guarded by mu
	refused int       // in that minute. guarded by mu
	omitted int       // since the last entry of one. guarded by mu
}

// maxRefusedEntries is how many refused HTTP requests get an entry in a minute: anybody
// can send them.
const maxRefusedEntries = 20

func (a *auditor) entry(e policy.Entry, refusal error) {
	if a.write == nil {
		return
	}
	e.Time, e.Allowed = time.Now(), refusal == nil
	if refusal != nil {
		e.Rule = refusal.Error()
	}
	for _, text := range []*string{&e.From, &e.Request, &e.ID, &e.Subject, &e.Rule} {
		*text = base.Printable(a.secrets.Text(*text), maxAudited)
	}
	a.write(e)
}

// command records what became of a command. A second copy is no news.
func (a *auditor) command(who, from string, c heartbeat.Command, model string, refusal error) {
	if errors.Is(refusal, ErrDuplicate) {
		return
	}
	a.entry(policy.Entry{Who: who, From: from, Request: c.Type, ID: cmp.Or(c.ID, c.TestID), Subject: model}, refusal)
}

// request records what a caller of the API asked for.
func (a *auditor) request(r *http.Request, what, subject string, refusal error) {
	a.entry(policy.Entry{Who: policy.ByCaller, From: r.RemoteAddr, Request: what, Subject: subject}, refusal)
}

// refusedRequest records a request that the API refused before it looked at it.
func (a *auditor) refusedRequest(r *http.Request, reason string) {
	a.mu.Lock()
	if minute := time.Now().Truncate(time.Minute); !minute.Equal(a.minute) {
		a.minute, a.refused = minute, 0
	}
	if a.refused++; a.refused > maxRefusedEntries {
		a.omitted++
		a.mu.Unlock()
		return
	}
	omitted := a.omitted
	a.omitted = 0
	a.mu.Unlock()
	a.entry(policy.Entry{Who: policy.ByCaller, From: r.RemoteAddr, Request: r.Method + " " + r.URL.Path, Omitted: omitted}, errors.New(reason))
}

// settings records the settings that the server changed, and those that were refused.
func (a *auditor) settings(before, after map[string]string, sent map[string]string, refusals map[string]error) {
	for _, name := range policy.Settings() {
		if err := refusals[name]; err != nil {
			a.entry(policy.Entry{Who: policy.ByServer, Request: "set " + name, Subject: sent[name]}, err)
		} else if before[name] != after[name] {
			a.entry(policy.Entry{Who: policy.ByServer, Request: "set " + name, Subject: after[name]}, nil)
		}
	}
}

// submitted records a command of the program's.
func (a *auditor) submitted(c jobs.Command, id string, refusal error) {
	a.command(policy.ByProgram, "", heartbeat.Command{Type: c.Type, ID: id}, c.Spec.Model, refusal)
}
