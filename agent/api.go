package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/connlimit"
	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/hostmonitor"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
)

// Limits of the HTTP API against clients that are slow or send too much.
const (
	maxBody           = 1 << 20
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = time.Minute
	maxHeaderBytes    = 32 << 10
	closeTimeout      = 2 * time.Second
	sendBuffer        = 256 << 10 // bytes of an answer that may be on their way to one caller
)

// Handler returns the agent's HTTP API:
//
//	POST /api/commands      hand the agent a command, or cancel one     token
//	GET  /api/logs/{id}     follow a job's log as Server-Sent Events     token
//	GET  /api/engines       engines installed on the machine             token
//	GET  /api/gpus          GPUs, the jobs that have them, processes     token
//	POST /api/stop          {"mode": "drain" | "cancel"}, then stop      token
//	POST /api/heartbeat     send the server a heartbeat now, and answer with its
//	                        outcome: 200 or 502                          token
//	GET  /api/status        the agent's status; callers on other machines without
//	                        the token see the protocol's own fields only
//	GET  /healthz           200 while the agent works, 503 while it stops or is stuck
//	GET  /readyz            200 while it can also do work for its server, 503 while
//	                        it can't; either way with its problems, of which
//	                        callers without the token on other machines see
//	                        no details
//	GET  /metrics           Config.Metrics, if set
//	     other paths        Config.Page, if set, which asks for the token by itself
//
// {id} is a command's or a test's. The token goes into the header
// Authorization: Bearer <token>. An agent without a token accepts only callers on its
// own machine; callers through a proxy on that machine count as such.
//
// On every route a request is refused with 403 if it comes from a web page of
// another origin (Origin, Sec-Fetch-Site), or if its Host is not an address,
// localhost, the machine's name or one of Config.AllowedHosts. With a token that
// Host is asked of browsers only. A body that is not application/json is refused
// with 415.
func (a *Agent) Handler() http.Handler { return (&api{a}).handler() }

// api serves the agent's HTTP API.
type api struct{ *Agent }

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		mux.HandleFunc(r.pattern, r.handler)
	}
	return a.guard(a.withPage(mux))
}

// withPage serves Config.Page at the paths that the API doesn't have.
func (a *api) withPage(routes *http.ServeMux) http.Handler {
	if a.page == nil {
		return routes
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := routes.Handler(r); pattern == "" && !strings.HasPrefix(r.URL.Path, "/api/") {
			a.page.ServeHTTP(w, r)
			return
		}
		routes.ServeHTTP(w, r)
	})
}

// route is one route of the API.
type route struct {
	pattern string
	handler http.HandlerFunc
}

// routes returns all of them. None waits for the disk with the jobs without a limit.
func (a *api) routes() []route {
	return []route{
		{"POST /api/commands", a.authorized(a.postCommand)},
		{"GET /api/logs/{id}", a.authorized(a.getLogs)},
		{"GET /api/engines", a.authorized(a.getEngines)},
		{"GET /api/gpus", a.authorized(a.getGPUs)},
		{"POST /api/stop", a.authorized(a.postStop)},
		{"POST /api/heartbeat", a.authorized(a.postHeartbeat)},
		{"GET /api/status", a.getStatus},
		{"GET /healthz", a.getHealth},
		{"GET /readyz", a.getReady},
		{"GET /metrics", a.getMetrics},
	}
}

// authorized lets only those callers through to next that present the token.
func (a *api) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if reason := a.refusal(r); reason != "" {
			fail(w, http.StatusUnauthorized, reason)
			return
		}
		next(w, r)
	}
}

// trusts reports whether a caller may see what the protocol doesn't show to
// everybody: one on this machine, or with the token.
func (a *api) trusts(r *http.Request) bool {
	return fromThisMachine(r) || a.cfg.Token != "" && a.token.presents(r)
}

// getStatus returns the agent's status. The protocol leaves it open to everybody, so
// the fields that the protocol doesn't have are for callers with the token and those on
// this machine.
func (a *api) getStatus(w http.ResponseWriter, r *http.Request) {
	s := a.Status()
	if a.trusts(r) {
		answer(w, http.StatusOK, s)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"name": s.Name, "running": s.Running, "active_containers": s.ActiveContainers,
		"active_streams": s.ActiveStreams, "storage": s.Storage,
	})
}

func (a *api) postCommand(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		fail(w, http.StatusRequestEntityTooLarge, "Body too large: at most 1 MiB is taken")
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "Body could not be read")
		return
	}
	cmd, target, err := readCommand(body)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	switch cmd.Type {
	case TypeCancel, TypeStopContainer:
		a.postCancel(w, r, cmd, target)
	case TypeStopEngine:
		a.postStopEngine(w, r, cmd)
	case TypeCheckDocker:
		answer(w, http.StatusOK, map[string]any{"available": a.containersReady(r.Context())})
	case TypeEngineStatus:
		a.postEngineStatus(w, r, cmd)
	default:
		a.postJob(w, r, cmd)
	}
}

// readCommand reads a command, and the target of one that stops a job: the payload's
// id, or its own if the payload has none.
func readCommand(body []byte) (cmd heartbeat.Command, target string, err error) {
	if err := checkNesting("JSON body", body); err != nil {
		return cmd, "", err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || len(fields) == 0 {
		return cmd, "", errors.New("Invalid JSON body")
	}
	for name, into := range map[string]*string{"command_id": &cmd.ID, "test_id": &cmd.TestID, "type": &cmd.Type} {
		if raw, ok := fields[name]; ok && string(raw) != "null" && json.Unmarshal(raw, into) != nil {
			return cmd, "", errors.New("Invalid " + name + ": it must be a text")
		}
	}
	cmd.Payload = fields["payload"]
	var payload struct {
		CommandID string `json:"command_id"`
		TestID    string `json:"test_id"`
		jobs.Spec        // checked here too, whatever the type
	}
	if !emptyPayload(cmd.Payload) {
		if err := json.Unmarshal(cmd.Payload, &payload); err != nil {
			return cmd, "", payloadError(err)
		}
	}
	return cmd, cmp.Or(payload.CommandID, payload.TestID, cmd.ID, cmd.TestID), nil
}

// postCancel stops a job and answers once it has stopped.
func (a *api) postCancel(w http.ResponseWriter, r *http.Request, cmd heartbeat.Command, target string) {
	if target == "" {
		fail(w, http.StatusBadRequest, "Invalid "+cmd.Type+": name the job by command_id or test_id")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.StopGrace+execution.CleanTimeout)
	defer cancel()
	extendWriting(w, a.cfg.StopGrace+execution.CleanTimeout)
	err := a.Cancel(ctx, target, "user")
	a.audit.request(r, cmd.Type, target, err)
	switch {
	case err == nil:
		answer(w, http.StatusOK, map[string]any{"stopped": true, "command_id": a.commandID(target)})
	case errors.Is(err, ErrNotAccepting):
		failNotRunning(w)
	case errors.Is(err, ErrNoJob):
		fail(w, http.StatusNotFound, "No active container for this command")
	case errors.Is(err, ErrEnded):
		if cmd.Type == TypeStopContainer {
			fail(w, http.StatusNotFound, "The job has ended already")
			return
		}
		answer(w, http.StatusOK, map[string]any{"stopped": false, "ended": true, "command_id": a.commandID(target), "error": "The job has ended already"})
	case errors.Is(err, runner.ErrStillRunning):
		answer(w, http.StatusOK, map[string]any{"stopped": false, "command_id": a.commandID(target), "error": "The job has ended, and its benchmark may still be running"})
	default:
		answer(w, http.StatusAccepted, map[string]any{"stopped": false, "command_id": a.commandID(target), "error": "The job is still being stopped"})
	}
}

func (a *api) commandID(id string) string {
	if j := a.registry.find(id); j != nil {
		return j.Command.ID
	}
	return id
}

func (a *api) postEngineStatus(w http.ResponseWriter, r *http.Request, cmd heartbeat.Command) {
	all := hostmonitor.OnWire(a.host.Engines(r.Context()))
	c, err := parseCommand(cmd, true)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if c.Spec.Engine == "" {
		answer(w, http.StatusOK, map[string]any{"engines": all})
		return
	}
	answer(w, http.StatusOK, engineState(all, c.Spec.Engine))
}

// postJob accepts a command that becomes a job.
func (a *api) postJob(w http.ResponseWriter, r *http.Request, cmd heartbeat.Command) {
	id, err := a.submitSoon(cmd)
	a.audit.command(policy.ByCaller, r.RemoteAddr, heartbeat.Command{Type: cmd.Type, ID: cmp.Or(id, cmd.ID)}, modelOf(cmd), err)
	_, bad := errors.AsType[*CommandError](err)
	switch {
	case err == nil:
		answer(w, http.StatusAccepted, map[string]any{"accepted": true, "command_id": id})
	case bad:
		fail(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, ErrDuplicate):
		// To whoever sends it twice, the answer is the same: it is accepted. It
		// runs once.
		answer(w, http.StatusAccepted, map[string]any{"accepted": true, "command_id": id, "duplicate": true})
	case errors.Is(err, ErrNotAccepting):
		failNotRunning(w)
	case errors.Is(err, runner.ErrUnavailable), errors.Is(err, errDiskHangs):
		fail(w, http.StatusServiceUnavailable, err.Error())
	default:
		a.cfg.Logger.Error("command not accepted", "err", err)
		fail(w, http.StatusInsufficientStorage, "The command could not be written to disk, so it was not accepted: "+err.Error())
	}
}

// modelOf returns the model that a command names, for the audit trail.
func modelOf(cmd heartbeat.Command) string {
	c, err := decodeCommand(cmd)
	if err != nil {
		return ""
	}
	return c.Spec.Model
}

// acceptTimeout is how long a caller waits for its command to be written to disk.
const acceptTimeout = 10 * time.Second

var errDiskHangs = errors.New("The disk with the jobs does not answer. The command is accepted if it does so later: " +
	"send it again with the same command_id, or look at the agent's status")

// submitSoon accepts a command as submitJSON does, but doesn't wait longer than
// acceptTimeout for the disk.
func (a *api) submitSoon(cmd heartbeat.Command) (id string, err error) {
	_, release, err := a.registry.acquire()
	if err != nil {
		return "", err
	}
	type accepted struct {
		id  string
		err error
	}
	done := make(chan accepted, 1)
	go func() { // the registry waits for it when the agent stops
		defer release()
		id, err := a.intake.submitJSON(cmd)
		done <- accepted{id, err}
	}()
	late := time.NewTimer(acceptTimeout)
	defer late.Stop()
	select {
	case c := <-done:
		return c.id, c.err
	case <-late.C:
		return "", errDiskHangs
	}
}

// heartbeatTimeout is how long a caller waits for the outcome of a heartbeat.
const heartbeatTimeout = 40 * time.Second

// postHeartbeat sends a heartbeat and answers with its outcome.
func (a *api) postHeartbeat(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), heartbeatTimeout)
	defer cancel()
	extendWriting(w, heartbeatTimeout)
	err := a.Heartbeat(ctx)
	switch {
	case err == nil:
		answer(w, http.StatusOK, map[string]any{"agent_id": a.agentID()})
	case errors.Is(err, ErrNotAccepting):
		failNotRunning(w)
	default:
		fail(w, http.StatusBadGateway, printable(err.Error()))
	}
}

// failNotRunning answers a caller that came before Run or during its end.
func failNotRunning(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "10")
	fail(w, http.StatusServiceUnavailable, "The agent is stopping and takes no commands; try again when it is back")
}

func (a *api) getLogs(w http.ResponseWriter, r *http.Request) {
	stopped, release, err := a.registry.acquire()
	if err != nil {
		failNotRunning(w)
		return
	}
	defer release()
	unfollow, admitted := a.logs.FollowWithin(connlimit.Within(a.cfg.MaxFollowers))
	if !admitted {
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, "Too many readers follow logs; try again later, or raise limits.followers in agent.yaml")
		return
	}
	defer unfollow()
	// A program that serves the Handler itself may have readers that outlive Run,
	// which waits for them: there is nothing more to come.
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-stopped:
			stop()
		case <-over:
		}
	}()
	r = r.WithContext(ctx)
	j := a.registry.find(r.PathValue("id"))
	if j == nil || !a.awaitLog(ctx, j) {
		fail(w, http.StatusNotFound, "No logs for this command")
		return
	}
	log, closeLog, err := a.logs.Open(j)
	if err != nil {
		a.cfg.Logger.Warn("log not read", "job", j.ID, "err", err)
		fail(w, http.StatusNotFound, "No logs for this command")
		return
	}
	defer closeLog()
	logstream.ServeSSE(w, r, log, j.Command.ID)
}

// awaitLog reports whether j has a log. A job that waits has none yet: the reader waits
// with it.
func (a *api) awaitLog(ctx context.Context, j *jobs.Job) bool {
	for {
		changed := j.Changed()
		if j.State() != jobs.StateAccepted {
			return j.Log.Exists()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (a *api) getEngines(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"engines": hostmonitor.OnWire(a.host.Engines(r.Context()))})
}

// engineState returns the state of one engine. The protocol answers for names
// that it doesn't know too.
func engineState(engines []heartbeat.Engine, name string) heartbeat.Engine {
	for _, e := range engines {
		if e.Engine == name {
			return e
		}
	}
	return heartbeat.Engine{Engine: printable(name)}
}

// postStop makes the agent stop once its running jobs have ended, or ends them
// first.
func (a *api) postStop(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Mode string `json:"mode"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, "Invalid JSON body")
		return
	}
	switch body.Mode {
	case "drain":
		a.Drain()
	case "cancel":
		a.CancelAll("user")
	default:
		fail(w, http.StatusBadRequest, "Invalid mode: drain or cancel")
		return
	}
	a.audit.request(r, "stop", body.Mode, nil)
	answer(w, http.StatusAccepted, map[string]any{"stopping": true, "running": len(a.queue.Active())})
}

// getHealth answers whether the agent's loops work, which is more than that
// the process lives: a state that cannot be written means that it doesn't.
func (a *api) getHealth(w http.ResponseWriter, _ *http.Request) {
	if !a.registry.isAccepting() {
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": "stopping", "error": "the agent is stopping and takes no commands"})
		return
	}
	if err := a.Alive(); err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": "stuck", "error": err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]any{"status": "ok"})
}

// getMetrics serves Config.Metrics. Without them Config.Page does not get the path either:
// a Prometheus would take its page for metrics.
func (a *api) getMetrics(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Metrics == nil {
		fail(w, http.StatusNotFound, "This agent serves no metrics here; see metrics and metrics_listen in agent.yaml")
		return
	}
	a.cfg.Metrics.ServeHTTP(w, r)
}

// serve serves the API on listener, if there is one, until ctx is done. The
// returned function waits for it to end.
func (a *api) serve(ctx context.Context, listener net.Listener) (wait func() error) {
	if listener == nil {
		return func() error { return nil }
	}
	limiter := &connlimit.Limiter{Max: connlimit.Within(a.cfg.MaxConnections)}
	limiter.Refused = func(from net.Addr) {
		a.notices.LogOnce("connections", func() {
			a.cfg.Logger.Warn("connection to the API refused: too many are open; limits.connections, and half of the files that the agent may open, bound them",
				"from", from.String(), "limit", limiter.Max)
		})
	}
	server := &http.Server{
		Handler:           a.handler(),
		TLSConfig:         a.cfg.TLS,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(a.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       boundBuffer,
		ConnState:         limiter.ConnState,
	}
	served := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() {
		var err error
		if a.cfg.TLS != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			a.cfg.Logger.Error("the API is not served any more", "err", err)
		}
		served <- err
	})
	serving.Go(func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if server.Shutdown(closing) != nil {
			_ = server.Close() // readers that follow a log to no end
		}
	})
	return func() error {
		serving.Wait()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("agent: serve the API: %w", err)
		}
		return nil
	}
}

// boundBuffer limits what the kernel buffers for a caller that reads nothing. By
// default it buffers 4 MiB for each (tcp(7), tcp_wmem).
func boundBuffer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = c.NetConn()
	}
	if c, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = c.SetWriteBuffer(sendBuffer) // if it fails, a caller costs more memory
	}
	return ctx
}

// extendWriting moves the deadline of an answer that takes long.
func extendWriting(w http.ResponseWriter, d time.Duration) {
	// A writer without deadlines has none to extend.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d + readTimeout))
}

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
}

// fail sends an error in the form of the KITT protocol.
func fail(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": strings.ToValidUTF8(text, "\uFFFD")})
}
