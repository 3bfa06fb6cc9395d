package harness_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A scheduler is the smallest server that speaks the KITT protocol. It stands
// for the server that you test.
type scheduler struct {
	mu   sync.Mutex
	jobs map[string]*job // by the name of the agent
}

// A job is a benchmark of a model, and what became of it.
type job struct {
	model          string
	handed         bool
	status, reason string
	log            []string
	metrics        map[string]any
}

func (s *scheduler) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer func(r *http.Request, body map[string]any) any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil && r.Method == http.MethodPost {
				http.Error(w, `{"error":"bad JSON"}`, http.StatusBadRequest)
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer(r, body))
		})
	}
	handle("POST /api/v1/agents/register", func(_ *http.Request, body map[string]any) any {
		return map[string]any{"agent_id": body["name"], "heartbeat_interval_s": 30}
	})
	handle("POST /api/v1/agents/{agent}/heartbeat", func(r *http.Request, _ map[string]any) any {
		name := r.PathValue("agent")
		commands := []any{}
		if j := s.jobs[name]; j != nil && !j.handed {
			j.handed, j.status = true, "dispatched"
			commands = append(commands, map[string]any{
				"type": "run_test", "command_id": "command-" + name, "test_id": name,
				"payload": map[string]any{"model_path": j.model, "engine_name": "vllm", "suite_name": "quick"},
			})
		}
		return map[string]any{"ack": true, "agent_id": name, "commands": commands, "settings": map[string]any{}}
	})
	// An agent that isn't sure whether a report of its own arrived asks.
	handle("GET /api/v1/quicktest/{$}", func(*http.Request, map[string]any) any {
		return map[string]any{"items": []any{}, "total": 0, "page": 1, "pages": 1}
	})
	handle("GET /api/v1/quicktest/{test}", func(r *http.Request, _ map[string]any) any {
		j := s.jobs[r.PathValue("test")]
		return map[string]any{"id": r.PathValue("test"), "status": j.status, "error": j.reason}
	})
	handle("GET /api/v1/quicktest/{test}/logs", func(r *http.Request, _ map[string]any) any {
		lines := []any{}
		for _, line := range s.jobs[r.PathValue("test")].log {
			lines = append(lines, map[string]any{"line": line})
		}
		return map[string]any{"lines": lines}
	})
	handle("POST /api/v1/quicktest/{test}/status", func(r *http.Request, body map[string]any) any {
		j := s.jobs[r.PathValue("test")]
		j.status, _ = body["status"].(string)
		j.reason, _ = body["error"].(string)
		return map[string]any{"ok": true}
	})
	handle("POST /api/v1/quicktest/{test}/logs", func(r *http.Request, body map[string]any) any {
		j := s.jobs[r.PathValue("test")]
		line, _ := body["line"].(string)
		j.log = append(j.log, line)
		return map[string]any{"ok": true}
	})
	handle("POST /api/v1/agents/{agent}/results", func(r *http.Request, body map[string]any) any {
		s.jobs[r.PathValue("agent")].metrics, _ = body["result_data"].(map[string]any)
		return map[string]any{"accepted": true}
	})
	return mux
}

// look returns a copy of a job.
func (s *scheduler) look(agent string) job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := *s.jobs[agent]
	j.log = slices.Clone(j.log)
	return j
}

// Three fake agents, each a whole agent on a machine that is made up, drive a
// server of one's own over real HTTP.
func TestMyServerWithThreeAgents(t *testing.T) {
	t.Parallel()
	rtx4090 := simulated.Hardware{GPU: simulated.GPU{Model: "NVIDIA GeForce RTX 4090"}, GPUs: 1}
	h100 := simulated.Hardware{GPU: simulated.GPU{Model: "NVIDIA H100 80GB HBM3"}, GPUs: 2}
	tests := []struct {
		agent    string
		hardware simulated.Hardware
		model    string
		scenario string
		status   string
		reason   string
	}{
		{"good", h100, "Llama-3.1-70B", "", "completed", ""},
		{"too-small", rtx4090, "Llama-3.1-70B", "", "failed", "Exit 1: CUDA out of memory"},
		{"broken", rtx4090, "Llama-3.1-8B", "fail-at=engine,exit=3", "failed", "Exit 3"},
	}
	server := &scheduler{jobs: map[string]*job{}}
	for _, tt := range tests {
		server.jobs[tt.agent] = &job{model: tt.model, status: "queued"}
	}
	http := httptest.NewServer(server.handler())
	t.Cleanup(http.Close)

	for _, tt := range tests {
		t.Run(tt.agent, func(t *testing.T) {
			t.Parallel()
			scenario, err := simulated.ParseScenario(tt.scenario)
			require.NoError(t, err)
			benchmarks, err := simulated.New(simulated.Config{Hardware: tt.hardware, Scenario: scenario})
			require.NoError(t, err)
			startAgent(t, http.URL, nil, agent.Config{Name: tt.agent, Runner: benchmarks})

			require.Eventually(t, func() bool {
				status := server.look(tt.agent).status
				return status == "completed" || status == "failed"
			}, time.Minute, 10*time.Millisecond)
			j := server.look(tt.agent)
			require.Equal(t, tt.status, j.status, "%q", j.log)
			require.Contains(t, j.reason, tt.reason)
			require.NotEmpty(t, j.log)
		})
	}
}
