package socketproxy

import (
	"context"
	"net/http"
)

// A description is what a benchmark learns of the engine and the machine: nothing of
// other containers, registries, proxies and keys.
type description struct {
	ID, Name                                  string `json:",omitempty"`
	Driver, OSType, OperatingSystem           string
	Architecture, KernelVersion               string
	ServerVersion, DefaultRuntime             string
	CgroupDriver, CgroupVersion               string
	SecurityOptions                           []string
	NCPU                                      int
	MemTotal                                  int64
	MemoryLimit, SwapLimit, PidsLimit, CPUSet bool
}

// info answers with what a benchmark may know of the engine.
func (p *Proxy) info(ctx context.Context, w http.ResponseWriter, route route) error {
	var d description
	if _, err := p.engine.get(ctx, route.version+"/info", nil, &d); err != nil {
		return err
	}
	return answerJSON(w, d)
}
