package socketproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/moby/moby/api/types/container"
)

// fullID is an ID of a container or an exec as an engine writes it.
var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// own returns the ID of the job's own container of that name or ID. To the benchmark
// there are no others.
func (p *Proxy) own(ctx context.Context, version, ref string) (string, error) {
	names := []string{ref}
	if !fullID.MatchString(ref) {
		names = []string{p.policy.unique(ref), ref}
	}
	for _, name := range names {
		var c struct {
			ID     string `json:"Id"`
			Config struct{ Labels map[string]string }
		}
		found, err := p.engine.get(ctx, version+"/containers/"+name+"/json", nil, &c)
		if err != nil {
			return "", err
		}
		if found && c.Config.Labels[LabelEngine] == p.policy.Job && fullID.MatchString(c.ID) {
			return c.ID, nil
		}
	}
	return "", noContainer(ref)
}

// parameters are those of each call about one container.
var parameters = map[action][]string{
	actInspect: {"size"},
	actLogs:    {"stdout", "stderr", "since", "until", "timestamps", "follow", "tail", "details"},
	actStart:   {},
	actStop:    {"t", "signal"},
	actKill:    {"signal"},
	actWait:    {"condition"},
	actRemove:  {"force", "v"},
}

// container passes a call about one of the job's own containers on, without a body.
func (p *Proxy) container(ctx context.Context, w http.ResponseWriter, method string, route route, query url.Values) error {
	id, err := p.own(ctx, route.version, route.ref)
	if err != nil {
		return err
	}
	path := route.version + "/containers/" + id
	if route.action != actRemove {
		path += "/" + ending[route.action]
	}
	return p.forward(ctx, w, call{method: method, path: path, query: only(query, parameters[route.action])})
}

// ending is the last part of the paths of those calls.
var ending = map[action]string{
	actInspect: "json", actLogs: "logs", actStart: "start", actStop: "stop", actKill: "kill", actWait: "wait",
}

// only returns the named parameters of a query, once each.
func only(query url.Values, names []string) url.Values {
	kept := url.Values{}
	for _, name := range names {
		if query.Has(name) {
			kept.Set(name, query.Get(name))
		}
	}
	return kept
}

// filters are those of a list that a benchmark may use.
var filters = map[string]bool{"name": true, "id": true, "status": true, "exited": true, "health": true, "label": true, "ancestor": true}

// list answers with the job's own containers. The engine filters them, and the answer
// is filtered again: engines differ in how they join several labels.
func (p *Proxy) list(ctx context.Context, w http.ResponseWriter, route route, query url.Values) error {
	wanted, err := p.filters(query.Get("filters"))
	if err != nil {
		return err
	}
	asked := only(query, []string{"all", "limit", "size"})
	asked.Set("filters", wanted)
	mine, err := p.listed(ctx, route, asked)
	if err != nil {
		return err
	}
	return answerJSON(w, mine)
}

// listed returns the job's own containers as the engine lists them.
func (p *Proxy) listed(ctx context.Context, route route, query url.Values) ([]json.RawMessage, error) {
	var all []json.RawMessage
	if _, err := p.engine.get(ctx, route.version+"/containers/json", query, &all); err != nil {
		return nil, err
	}
	mine := []json.RawMessage{}
	for _, text := range all {
		var c struct{ Labels map[string]string }
		if json.Unmarshal(text, &c) == nil && c.Labels[LabelEngine] == p.policy.Job {
			mine = append(mine, text)
		}
	}
	return mine, nil
}

// maxContainers is how many a benchmark may have at a time, ended ones included.
const maxContainers = 32

// checkCount refuses one more container than that.
func (p *Proxy) checkCount(ctx context.Context, route route) error {
	label := encodeFilters(map[string]map[string]bool{"label": {LabelEngine + "=" + p.policy.Job: true}})
	mine, err := p.listed(ctx, route, url.Values{"all": {"1"}, "filters": {label}})
	if err == nil && len(mine) >= maxContainers {
		err = refuse("a benchmark may not have more than %d containers", maxContainers)
	}
	return err
}

// filters returns the engine's filters for those of a client: an object of lists, or of
// objects whose keys are the values.
func (p *Proxy) filters(text string) (string, error) {
	asked := map[string]json.RawMessage{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &asked); err != nil {
			return "", invalid("the filters can't be read: %v", err)
		}
	}
	wanted := map[string]map[string]bool{}
	for name, values := range asked {
		if !filters[name] {
			return "", refuse("a benchmark may not list containers by %.50q", name)
		}
		set := map[string]bool{}
		var list []string
		if json.Unmarshal(values, &list) == nil {
			for _, value := range list {
				set[value] = true
			}
		} else if err := json.Unmarshal(values, &set); err != nil {
			return "", invalid("the filter %.50q can't be read: %v", name, err)
		}
		wanted[name] = set
	}
	if wanted["label"] == nil {
		wanted["label"] = map[string]bool{}
	}
	wanted["label"][LabelEngine+"="+p.policy.Job] = true
	return encodeFilters(wanted), nil
}

func encodeFilters(filters map[string]map[string]bool) string {
	text, _ := json.Marshal(filters) // of texts, which always works
	return string(text)
}

// network returns what the network of a new container is to be, empty for what it asks.
func (p *Proxy) network(ctx context.Context, route route) (container.NetworkMode, error) {
	if p.policy.Network != NetworkJob {
		return "", nil
	}
	labels := map[string]bool{}
	for name, value := range p.policy.Benchmark {
		labels[name+"="+value] = true
	}
	var found []struct {
		ID string `json:"Id"`
	}
	query := url.Values{"filters": {encodeFilters(map[string]map[string]bool{"label": labels})}}
	if _, err := p.engine.get(ctx, route.version+"/containers/json", query, &found); err != nil {
		return "", err
	}
	if len(found) != 1 || !fullID.MatchString(found[0].ID) {
		return "", fmt.Errorf("the benchmark's own container, whose network is to be joined, was not found among %d", len(found))
	}
	return container.NetworkMode("container:" + found[0].ID), nil
}

// answerJSON answers with v.
func answerJSON(w http.ResponseWriter, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // the client may have gone
	return nil
}
