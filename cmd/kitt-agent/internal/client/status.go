package client

import "time"

// Status is what the commands show of the agent's status. Fields that an agent
// doesn't send, as the Python agent doesn't most, are at their zero value.
type Status struct {
	Name             string  `json:"name"`
	Running          bool    `json:"running"`
	ActiveContainers int     `json:"active_containers"`
	ActiveStreams    int     `json:"active_streams"`
	Storage          Storage `json:"storage"`

	Version     string            `json:"version"`
	StartedAt   time.Time         `json:"started_at"`
	UptimeS     float64           `json:"uptime_s"`
	State       string            `json:"state"`
	Degraded    string            `json:"degraded"` // why it can't take work; empty if it can
	Draining    bool              `json:"draining"`
	Server      Server            `json:"server"`
	Jobs        []Job             `json:"jobs"`
	Recent      []Job             `json:"recent"`
	Undelivered int               `json:"undelivered"`
	Settings    map[string]string `json:"settings"`
	Warnings    []string          `json:"warnings"`
}

// Storage is the state of the disk that holds the models.
type Storage struct {
	UsedGB     float64 `json:"used_gb"` // GiB
	FreeGB     float64 `json:"free_gb"` // GiB
	ModelCount int     `json:"model_count"`
}

// Server is how the agent gets on with its server.
type Server struct {
	AgentID    string    `json:"agent_id"`
	Registered bool      `json:"registered"`
	LastBeat   time.Time `json:"last_beat"`
	LastError  string    `json:"last_error"`
	FailingFor int       `json:"failed_attempts"`
	Refusal    string    `json:"refusal"`
	IntervalS  float64   `json:"heartbeat_interval_s"`
}

// Job is one job of the agent's.
type Job struct {
	CommandID  string    `json:"command_id"`
	TestID     string    `json:"test_id"`
	Type       string    `json:"type"`
	State      string    `json:"state"`
	Model      string    `json:"model"`
	Engine     string    `json:"engine"`
	Suite      string    `json:"suite"`
	AcceptedAt time.Time `json:"accepted_at"`
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at"`
	LogLines   int64     `json:"log_lines"`
	Copy       *Copy     `json:"copy"`
	Error      string    `json:"error"`
}

// Copy is how far the copy of a job's model is.
type Copy struct {
	BytesDone  int64         `json:"bytes_done"`
	BytesTotal int64         `json:"bytes_total"`
	Rate       float64       `json:"rate"` // bytes a second
	Remaining  time.Duration `json:"remaining_ns"`
}

// Job returns the job with the given command or test id, or nil.
func (s *Status) Job(id string) *Job {
	for _, jobs := range [][]Job{s.Jobs, s.Recent} {
		for i := range jobs {
			if jobs[i].CommandID == id || jobs[i].TestID == id {
				return &jobs[i]
			}
		}
	}
	return nil
}
