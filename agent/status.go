package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/storage"
)

// Status is an agent's status, as GET /api/status returns it. Its first five
// fields are those of the KITT protocol.
type Status struct {
	Name             string        `json:"name"`
	Running          bool          `json:"running"`
	ActiveContainers int           `json:"active_containers"` // jobs that hold a slot
	ActiveStreams    int           `json:"active_streams"`    // readers that follow a log
	Storage          StorageStatus `json:"storage"`

	Version     string           `json:"version"`
	StartedAt   time.Time        `json:"started_at"` // zero before Run
	UptimeS     float64          `json:"uptime_s"`
	State       string           `json:"state"`    // idle, running or error, as in heartbeats
	Degraded    string           `json:"degraded"` // the first of Problems, in a sentence; empty if there is none
	Problems    []health.Problem `json:"problems"` // what keeps the agent from its work, or soon will
	Draining    bool             `json:"draining"`
	Server      ServerStatus     `json:"server"`
	Jobs        []JobStatus      `json:"jobs"`        // those that hold a slot, then those that wait, at most 1,000 of these
	Waiting     int              `json:"waiting"`     // jobs that wait, all of them
	Recent      []JobStatus      `json:"recent"`      // the last that ended, latest first, at most ten
	Undelivered int              `json:"undelivered"` // ended jobs whose reports the server has not accepted
	// UndeliveredSince is when the first of these jobs ended. UndeliveredBytes is what
	// their logs and results take on disk, as of less than a minute ago.
	UndeliveredSince time.Time `json:"undelivered_since,omitzero"`
	UndeliveredBytes int64     `json:"undelivered_bytes"`

	Settings  map[string]string  `json:"settings"` // in force, by the server's names
	Telemetry hwdetect.Telemetry `json:"telemetry"`
	GPUSets   []GPUSet           `json:"gpu_sets,omitempty"` // none if each benchmark has all GPUs
	Warnings  []string           `json:"warnings"`

	// SettingSources says where each value in Settings comes from: server,
	// remembered, machine or default; see SourceServer.
	SettingSources map[string]string `json:"setting_sources"`
}

// Job returns the status of the job with the given command or test id, or nil if
// s lists none.
func (s Status) Job(id string) *JobStatus {
	for _, jobs := range [][]JobStatus{s.Jobs, s.Recent} {
		for i := range jobs {
			if jobs[i].CommandID == id || jobs[i].TestID == id {
				return &jobs[i]
			}
		}
	}
	return nil
}

// StorageStatus is the state of the file system that holds the models.
type StorageStatus struct {
	UsedGB     float64 `json:"used_gb"` // GiB of the whole file system, as the protocol has it
	FreeGB     float64 `json:"free_gb"` // GiB
	ModelCount int     `json:"model_count"`
}

// ServerStatus is how the agent gets on with its server.
type ServerStatus struct {
	AgentID    string    `json:"agent_id"`
	Registered bool      `json:"registered"`
	LastBeat   time.Time `json:"last_beat,omitzero"`
	LastError  string    `json:"last_error"`
	FailingFor int       `json:"failed_attempts"`
	Refusal    string    `json:"refusal"` // what the server said when it last refused the agent; empty once it accepts it
	IntervalS  float64   `json:"heartbeat_interval_s"`

	// Heartbeats and registrations since the agent was made: accepted by the server,
	// refused by it, and those that did not reach it.
	BeatsAccepted int64 `json:"beats_accepted"`
	BeatsRefused  int64 `json:"beats_refused"`
	BeatsFailed   int64 `json:"beats_failed"`
}

// JobStatus is one job's status.
type JobStatus struct {
	CommandID   string            `json:"command_id"`
	TestID      string            `json:"test_id"`
	Type        string            `json:"type"`
	State       State             `json:"state"`
	Model       string            `json:"model"`
	Engine      string            `json:"engine,omitempty"`
	Suite       string            `json:"suite,omitempty"`
	AcceptedAt  time.Time         `json:"accepted_at"`
	StartedAt   time.Time         `json:"started_at,omitzero"`
	EndedAt     time.Time         `json:"ended_at,omitzero"`
	LogLines    int64             `json:"log_lines"`
	LogRefused  int64             `json:"log_refused,omitempty"` // lines that the disk refused
	WaitingFor  string            `json:"waiting_for,omitempty"` // why the job can't start now though its turn has come
	Copy        *storage.Progress `json:"copy,omitempty"`        // of the model, while it is made
	Error       string            `json:"error,omitempty"`
	Class       string            `json:"class,omitempty"`
	Fix         string            `json:"fix,omitempty"`
	CancelledBy string            `json:"cancelled_by,omitempty"`
	GPUs        []string          `json:"gpus,omitempty"`       // that it has for itself, by UUID; none if benchmarks have all of them
	Neighbours  []Neighbour       `json:"neighbours,omitempty"` // benchmarks that run, or ran, at the same time
	Integrity   *JobIntegrity     `json:"integrity,omitempty"`  // once the benchmark has ended; nil if nothing was recorded
	Refused     string            `json:"refused,omitempty"`    // which reports the server did not take, though it takes others, and why
	Dir         string            `json:"dir"`
}

// A JobIntegrity says whether the machine was fit to be measured during a benchmark.
// The reasons are in the file integrity.json in the job's directory.
type JobIntegrity = jobs.Machine

// A Neighbour is another benchmark of the agent that ran while a job's did.
type Neighbour = jobs.Neighbour

// A State is a step in a job's life:
//
//	accepted → preparing → running → finishing → completed | failed | cancelled
//
// Its method Ended reports whether no other state follows, Active whether the job
// holds a slot of the queue.
type State = jobs.State

// The states of a job.
const (
	StateAccepted  = jobs.StateAccepted  // on disk, waiting in the queue
	StatePreparing = jobs.StatePreparing // its model is being fetched
	StateRunning   = jobs.StateRunning   // handed to the Runner
	StateFinishing = jobs.StateFinishing // it ended; the result is being made
	StateCompleted = jobs.StateCompleted // ended well
	StateFailed    = jobs.StateFailed    // ended badly
	StateCancelled = jobs.StateCancelled // stopped on request
)

// recentJobs is how many ended jobs a Status lists.
const recentJobs = 10

// listedWaiting is how many waiting jobs it lists: the answer has to fit.
const listedWaiting = 1000

const gib = 1 << 30

// Status returns the agent's status now. It waits for no disk.
func (a *Agent) Status() Status {
	host := a.host.Latest()
	usage, telemetry := cmp.Or(host.Usage, new(storage.Usage)), host.Telemetry
	beat := a.beats.State()
	active := a.queue.Active()
	started, uptime := a.uptime()
	s := Status{
		Name:             a.cfg.Name,
		Running:          len(active) > 0,
		ActiveContainers: len(active),
		ActiveStreams:    a.logs.Followers(),
		Storage: StorageStatus{
			UsedGB:     round2(float64(usage.UsedBytes) / gib),
			FreeGB:     round2(float64(usage.FreeBytes) / gib),
			ModelCount: usage.ModelCount,
		},
		Version:   a.cfg.Version,
		StartedAt: started,
		UptimeS:   round2(uptime.Seconds()),
		State:     a.beat().Status,
		Problems:  a.Problems(),
		Server: ServerStatus{
			AgentID:    beat.AgentID,
			Registered: beat.Registered,
			LastBeat:   beat.LastBeat,
			LastError:  beat.LastError,
			FailingFor: beat.FailingFor,
			Refusal:    beat.Refusal,
			IntervalS:  beat.Interval.Seconds(),

			BeatsAccepted: beat.Accepted, BeatsRefused: beat.Refused, BeatsFailed: beat.Failed,
		},
		Jobs:     []JobStatus{},
		Recent:   []JobStatus{},
		Settings: a.settings.texts(),

		UndeliveredBytes: a.maintainer.undelivered.Load(),

		SettingSources: a.settings.sources(),

		Telemetry: telemetry,
		GPUSets:   a.gpuSets(),
		Warnings:  []string{},
	}
	if len(s.Problems) > 0 {
		s.Degraded = s.Problems[0].String()
	}
	waiting := a.queue.Waiting()
	s.Waiting = len(waiting)
	for _, j := range append(active, waiting[:min(len(waiting), listedWaiting)]...) {
		s.Jobs = append(s.Jobs, a.jobStatus(j))
	}
	for _, j := range a.lastEnded(&s) {
		s.Recent = append(s.Recent, a.jobStatus(j))
	}
	if beat.Interval > heartbeat.OfflineAfter {
		s.Warnings = append(s.Warnings, fmt.Sprintf(
			"The heartbeat interval is %s: the server shows an agent as offline after %s of silence", beat.Interval, heartbeat.OfflineAfter))
	}
	if telemetry.Fault != "" {
		s.Warnings = append(s.Warnings, "GPU trouble: "+telemetry.Fault)
	}
	s.Warnings = append(s.Warnings, a.gpuSetFaults()...)
	if text := a.sharing(); text != "" {
		s.Warnings = append(s.Warnings, text)
	}
	for _, refusal := range a.settings.refusals() {
		s.Warnings = append(s.Warnings, "The setting "+refusal)
	}
	s.Warnings = append(s.Warnings, a.host.Warnings()...)
	s.Warnings = append(s.Warnings, a.refusedWarnings()...)
	s.Draining = a.stopWhenIdle.Load()
	s.Warnings = append(s.Warnings, a.notices.Warnings()...)
	return s
}

// sharing says that benchmarks share GPUs, empty if they don't.
func (a *Agent) sharing() string {
	if a.cfg.MaxConcurrentJobs == 1 || a.sets != nil || a.cfg.GPUs == GPUNone || a.cfg.Exclusive || len(a.gpus()) == 0 {
		return ""
	}
	return fmt.Sprintf("Up to %d benchmarks run at once on the same GPUs and disturb each other; gpus_per_job or gpu_sets in agent.yaml gives each its own",
		a.cfg.MaxConcurrentJobs)
}

// refusedWarnings says of which jobs the server did not take all reports.
func (a *Agent) refusedWarnings() []string {
	var latest *jobs.Job
	n := 0
	for _, j := range a.registry.all() {
		if a.outbox.Refused(j) != "" {
			latest, n = j, n+1
		}
	}
	if n == 0 {
		return nil
	}
	text := fmt.Sprintf("Job %s: %s", latest.ID, a.outbox.Refused(latest))
	if n > 1 {
		text += fmt.Sprintf(" (and reports of %d other jobs)", n-1)
	}
	return []string{text}
}

// Jobs returns the status of all jobs in the agent's directory, in the order in which
// they were accepted. After Run it shows how Run left them.
func (a *Agent) Jobs() []JobStatus {
	all := []JobStatus{}
	for _, j := range a.registry.all() {
		all = append(all, a.jobStatus(j))
	}
	return all
}

// lastEnded returns the jobs that ended last, latest first, and counts in s those that
// are undelivered.
func (a *Agent) lastEnded(s *Status) []*jobs.Job {
	var ended []*jobs.Job
	for _, j := range a.registry.all() {
		if !j.State().Ended() {
			continue
		}
		ended = append(ended, j)
		if !a.outbox.Delivered(j) {
			s.Undelivered++
			if end := j.Record().EndedAt; s.UndeliveredSince.IsZero() || end.Before(s.UndeliveredSince) {
				s.UndeliveredSince = end
			}
		}
	}
	slices.SortFunc(ended, func(a, b *jobs.Job) int { return b.Record().EndedAt.Compare(a.Record().EndedAt) })
	return ended[:min(len(ended), recentJobs)]
}

// jobStatus returns the status of j. It waits for no disk.
func (a *Agent) jobStatus(j *jobs.Job) JobStatus {
	rec, spec := j.Record(), j.Command.Spec
	s := JobStatus{
		CommandID:  j.Command.ID,
		TestID:     j.TestID(),
		Type:       j.Command.Type,
		State:      rec.State,
		Model:      printable(spec.Model),
		Engine:     spec.Engine,
		Suite:      spec.Suite,
		AcceptedAt: j.AcceptedAt,
		StartedAt:  rec.StartedAt,
		EndedAt:    rec.EndedAt,
		Copy:       a.executor.CopyProgress(j),
		WaitingFor: a.queue.Blocked(j),
		LogLines:   max(rec.LogLines, j.Log.Lines()),
		LogRefused: max(rec.LogRefused, j.Log.Refused()),
		Refused:    a.outbox.Refused(j),
		GPUs:       rec.GPUs,
		Neighbours: rec.Neighbours,
		Dir:        j.Dir,
	}
	if rec.Outcome != nil {
		s.Error, s.Class, s.Fix, s.Integrity = rec.Outcome.Error, rec.Outcome.Class, rec.Outcome.Fix, rec.Outcome.Machine
	}
	if c := j.Cancelled(); c != nil {
		s.CancelledBy = c.By
	}
	return s
}

// taskName is what heartbeats call a job: its test's id, or its own if it is for no
// test.
func taskName(j *jobs.Job) string { return cmp.Or(printable(j.TestID()), j.ID) }

func round2(x float64) float64 { return float64(int64(x*100+0.5)) / 100 }
