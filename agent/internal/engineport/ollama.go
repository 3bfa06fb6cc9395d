package engineport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// maxAnswer is the most that is read of an answer of ollama's, in bytes.
const maxAnswer = 1 << 20

// client speaks to this machine alone, and keeps no connections.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse
}}

// LoadedInOllama returns the names of the models that ollama's service on a port of this
// machine has loaded, from its GET /api/ps.
func LoadedInOllama(ctx context.Context, port int) (models []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(port))+"/api/ps", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ollama on port %d answers %s", port, resp.Status)
	}
	var answer struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ollama on port %d: %w", port, err)
	}
	for _, m := range answer.Models {
		models = append(models, m.Name)
	}
	return models, nil
}

// SameModel reports whether two names of ollama's are the same model: a missing tag is
// latest.
func SameModel(a, b string) bool { return withTag(a) == withTag(b) }

func withTag(name string) string {
	name = strings.ToLower(name)
	if strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		return name
	}
	return name + ":latest"
}
