package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
)

// The types of command that an agent knows.
const (
	TypeRunTest        = jobs.TypeRunTest
	TypeRunContainer   = "run_container"
	TypeStopContainer  = "stop_container"
	TypeCleanupStorage = jobs.TypeCleanupStorage
	TypeStartEngine    = jobs.TypeStartEngine
	TypeStopEngine     = jobs.TypeStopEngine
	TypeInstallEngine  = jobs.TypeInstallEngine
	TypeCheckDocker    = "check_docker"
	TypeEngineStatus   = "engine_status"
	TypeCancel         = "cancel"
)

// cleanupAll is the model path by which the server means every copy.
const cleanupAll = "__cleanup__"

// The words that an operator may use in a command.
var (
	knownEngines = []string{"vllm", "llama_cpp", "ollama", "exllamav2", "mlx"}
	knownSuites  = []string{"quick", "standard", "performance"}
)

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Bounds of a command, whoever sends it.
const (
	maxPayload   = 1 << 20 // bytes
	maxNesting   = 32      // levels of objects and lists in a payload; the server's own have 2
	maxTestID    = 256     // bytes of a test's id; the server's own have 16
	maxModelPath = 4096    // bytes: PATH_MAX of Linux
)

// A CommandError says what is wrong with a command.
type CommandError struct {
	Text string // one sentence, fit for whoever sent the command
	Err  error  // behind it; may be nil
}

// Unwrap returns Err.
func (e *CommandError) Unwrap() error { return e.Err }

// Error returns the sentence.
func (e *CommandError) Error() string { return e.Text }

// Fault implements [fault.Classified].
func (e *CommandError) Fault() (class, fix string) {
	if class, _ := fault.Of(e.Err); class != "" {
		return class, "" // the sentence has it
	}
	return "bad-command", ""
}

func badCommand(format string, args ...any) error {
	return &CommandError{Text: fmt.Sprintf(format, args...)}
}

// parseCommand checks cmd and returns it as a job keeps it. Its errors are
// CommandErrors. An operator is held to the words that the protocol lists; those of
// the server come unchecked, and `kitt run` judges them.
func parseCommand(cmd heartbeat.Command, operator bool) (jobs.Command, error) {
	c, err := decodeCommand(cmd)
	if err != nil {
		return c, err
	}
	return checkCommand(c, operator)
}

// decodeCommand returns cmd with the part of its payload that the agent reads.
func decodeCommand(cmd heartbeat.Command) (jobs.Command, error) {
	c := jobs.Command{ID: cmd.ID, TestID: cmd.TestID, Type: cmd.Type}
	if err := checkPayload(cmd.Payload); err != nil {
		return c, err
	}
	if !emptyPayload(cmd.Payload) {
		if err := json.Unmarshal(cmd.Payload, &c.Spec); err != nil {
			return c, payloadError(err)
		}
	}
	return c, nil
}

// checkCommand checks c and returns it with the protocol's defaults in place of what
// it left out.
func checkCommand(c jobs.Command, operator bool) (jobs.Command, error) {
	switch c.Type {
	case TypeRunTest:
		return checkRunTest(c, operator)
	case TypeCleanupStorage:
		c.Spec = jobs.Spec{Model: c.Spec.Model}
		if c.Spec.Model == cleanupAll {
			c.Spec.Model = ""
		}
		return c, checkText("model_path", c.Spec.Model, maxModelPath)
	case TypeRunContainer:
		return c, badCommand("Unsupported command type: run_container. No KITT server sends it, and its free flags " +
			"would make the agent's token as good as root on this machine; use run_test")
	case TypeStartEngine, TypeStopEngine, TypeInstallEngine:
		return checkEngineCommand(c)
	case TypeStopContainer, TypeCheckDocker, TypeEngineStatus, TypeCancel:
		return c, nil
	case "":
		return c, badCommand("Invalid command: type is missing")
	}
	return c, badCommand("Unknown command type: %s", printable(c.Type))
}

// checkEngineCommand leaves what an engine command needs. The engine's own rules and the
// policy come in enginejobs.
func checkEngineCommand(c jobs.Command) (jobs.Command, error) {
	spec := jobs.Spec{Engine: c.Spec.Engine}
	if c.Type == TypeStartEngine {
		spec.Model, spec.RuntimeConfig = c.Spec.Model, c.Spec.RuntimeConfig
	}
	c.Spec = spec
	if !wordPattern.MatchString(spec.Engine) {
		return c, badCommand("Invalid engine: %s", printable(spec.Engine))
	}
	if spec.Model == "" {
		return c, nil
	}
	return c, checkModel(spec.Model)
}

func checkRunTest(c jobs.Command, operator bool) (jobs.Command, error) {
	s := &c.Spec
	s.Engine = cmp.Or(s.Engine, "vllm")
	s.Suite = cmp.Or(s.Suite, "quick")
	s.Benchmark = printable(cmp.Or(s.Benchmark, "throughput"))
	s.Profile = jobs.Text(printable(string(s.Profile)))
	s.RuntimeConfig = nil
	switch {
	case !wordPattern.MatchString(s.Engine), operator && !slices.Contains(knownEngines, s.Engine):
		return c, badCommand("Invalid engine: %s", printable(s.Engine))
	case !wordPattern.MatchString(s.Suite), operator && !slices.Contains(knownSuites, s.Suite):
		return c, badCommand("Invalid suite: %s", printable(s.Suite))
	case s.Mode != "" && s.Mode != "docker" && s.Mode != "native":
		return c, badCommand("Invalid engine_mode: %s (docker, native or nothing)", printable(s.Mode))
	}
	return c, checkModel(s.Model)
}

// checkPayload rejects a payload that is too large or nested too deeply to be worth
// reading.
func checkPayload(text []byte) error {
	if len(text) > maxPayload {
		return badCommand("Invalid payload: %d bytes, at most %d are allowed", len(text), maxPayload)
	}
	return checkNesting("payload", text)
}

// checkNesting rejects JSON that has more than maxNesting levels.
func checkNesting(what string, text []byte) error {
	if nesting(text) > maxNesting {
		return badCommand("Invalid %s: objects and lists are nested more than %d levels deep", what, maxNesting)
	}
	return nil
}

// nesting returns how many levels of objects and lists the JSON in text has.
func nesting(text []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// emptyPayload reports whether a payload asks for nothing.
func emptyPayload(text []byte) bool {
	raw := strings.TrimSpace(string(text))
	return raw == "" || raw == "null"
}

// checkModel refuses model paths that could mean something other than a model
// to a file system or to `kitt run`'s command line.
func checkModel(model string) error {
	if err := checkText("model_path", model, maxModelPath); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(model) == "":
		return badCommand("Invalid model_path: it is empty")
	case strings.HasPrefix(model, "-"):
		return badCommand("Invalid model_path: %s would be read as a flag", printable(model))
	case slices.Contains(strings.Split(model, "/"), ".."):
		return badCommand("Invalid model_path: %s leads out of its directory with ..", printable(model))
	case path.Clean(model) == "/" || path.Clean(model) == ".":
		return badCommand("Invalid model_path: %s names no model", printable(model))
	}
	return nil
}

// checkText refuses text that no path or name holds.
func checkText(field, text string, limit int) error {
	switch {
	case len(text) > limit:
		return badCommand("Invalid %s: %d bytes, at most %d are allowed", field, len(text), limit)
	case !utf8.ValidString(text):
		return badCommand("Invalid %s: it is not UTF-8", field)
	case strings.ContainsFunc(text, unicode.IsControl):
		return badCommand("Invalid %s: it holds control characters", field)
	}
	return nil
}

func payloadError(err error) error {
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return badCommand("Invalid payload: it is not JSON")
	}
	kind := "a " + e.Value
	if strings.ContainsRune("ao", rune(e.Value[0])) { // array, object
		kind = "an " + e.Value
	}
	if e.Field == "" {
		return badCommand("Invalid payload: it must be an object, not %s", kind)
	}
	// Of an embedded struct the field has the name of its Go type before its own.
	return badCommand("Invalid payload: %s must be a text, not %s", e.Field[strings.LastIndexByte(e.Field, '.')+1:], kind)
}

// printable returns a short text from elsewhere as one that is safe to print.
func printable(text string) string { return base.Printable(text, 80) }
