package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// The types of command that an agent knows.
const (
	TypeRunTest        = "run_test"
	TypeRunContainer   = "run_container"
	TypeStopContainer  = "stop_container"
	TypeCleanupStorage = "cleanup_storage"
	TypeStartEngine    = "start_engine"
	TypeStopEngine     = "stop_engine"
	TypeInstallEngine  = "install_engine"
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

var (
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	wordPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// maxModelPath is the longest model path that is taken, in bytes: PATH_MAX of
// Linux.
const maxModelPath = 4096

// A CommandError says what is wrong with a command.
type CommandError struct {
	Text string // one sentence, fit for whoever sent the command
}

// Error returns the sentence.
func (e *CommandError) Error() string { return e.Text }

// Class returns the class of failure, for machines.
func (e *CommandError) Class() string { return "bad-command" }

// Fix returns an empty text.
func (e *CommandError) Fix() string { return "" }

func badCommand(format string, args ...any) error {
	return &CommandError{Text: fmt.Sprintf(format, args...)}
}

// spec is what a command asks for, with defaults in place of what it left out.
type spec struct {
	Type      string
	Model     string
	Engine    string
	Suite     string
	Mode      string
	Benchmark string // shown to people; it doesn't reach `kitt run`
}

// payload is the part of a command's payload that the agent reads. Everything
// in it is a stranger's.
type payload struct {
	ModelPath     string `json:"model_path,omitempty"`
	EngineName    string `json:"engine_name,omitempty"`
	SuiteName     string `json:"suite_name,omitempty"`
	EngineMode    string `json:"engine_mode,omitempty"`
	BenchmarkName string `json:"benchmark_name,omitempty"`
	CommandID     string `json:"command_id,omitempty"` // of cancel and stop_container
	TestID        string `json:"test_id,omitempty"`    // likewise
}

// parseCommand checks cmd and returns what it asks for. Its errors are
// CommandErrors. An operator is held to the words that the protocol lists;
// those of the server come unchecked and are `kitt run`'s to judge.
func parseCommand(cmd heartbeat.Command, operator bool) (spec, error) {
	s := spec{Type: cmd.Type}
	if err := checkPayload(cmd.Payload); err != nil {
		return s, err
	}
	var p payload
	if !emptyPayload(cmd.Payload) {
		if err := json.Unmarshal(cmd.Payload, &p); err != nil {
			return s, payloadError(err)
		}
	}
	s.Model, s.Engine, s.Suite, s.Mode, s.Benchmark = p.ModelPath, p.EngineName, p.SuiteName, p.EngineMode, p.BenchmarkName
	switch cmd.Type {
	case TypeRunTest:
		return s.checkRunTest(operator)
	case TypeCleanupStorage:
		s = spec{Type: s.Type, Model: s.Model}
		if s.Model == cleanupAll {
			s.Model = ""
		}
		return s, checkText("model_path", s.Model, maxModelPath)
	case TypeRunContainer, TypeStartEngine, TypeStopEngine, TypeInstallEngine:
		return s, badCommand("Unsupported command type: %s (this agent runs benchmarks through run_test only)", cmd.Type)
	case TypeStopContainer, TypeCheckDocker, TypeEngineStatus, TypeCancel:
		return s, nil
	case "":
		return s, badCommand("Invalid command: type is missing")
	}
	return s, badCommand("Unknown command type: %s", printable(cmd.Type))
}

// checkRunTest fills in the protocol's defaults and checks what a benchmark is
// asked to run on.
func (s spec) checkRunTest(operator bool) (spec, error) {
	s.Engine = orDefault(s.Engine, "vllm")
	s.Suite = orDefault(s.Suite, "quick")
	s.Benchmark = printable(orDefault(s.Benchmark, "throughput"))
	switch {
	case !wordPattern.MatchString(s.Engine), operator && !slices.Contains(knownEngines, s.Engine):
		return s, badCommand("Invalid engine: %s", printable(s.Engine))
	case !wordPattern.MatchString(s.Suite), operator && !slices.Contains(knownSuites, s.Suite):
		return s, badCommand("Invalid suite: %s", printable(s.Suite))
	case s.Mode != "" && s.Mode != "docker" && s.Mode != "native":
		return s, badCommand("Invalid engine_mode: %s (docker, native or nothing)", printable(s.Mode))
	}
	return s, checkModel(s.Model)
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
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
		return badCommand("Invalid payload: %s must be a text, not a %s", e.Field, e.Value)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return badCommand("Invalid payload: it must be an object, not a %s", e.Value)
	}
	return badCommand("Invalid payload: it is not JSON")
}

// printable returns text as it may stand in an error: short and without
// anything that a terminal would act on.
func printable(text string) string { return printableUpTo(80, text) }

// printableUpTo is printable with another limit, in characters.
func printableUpTo(most int, text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, text)
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return text
}

// newID returns a fresh id in the server's form: 16 hexadecimal digits.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// safeID returns the id under which a command is kept: its own, or one derived
// from it where its own could not name a directory. The same command always
// gets the same id, so that it is still run at most once.
func safeID(id string) (safe string, own bool) {
	if idPattern.MatchString(id) {
		return id, true
	}
	sum := sha256.Sum256([]byte(id))
	return "invalid-" + hex.EncodeToString(sum[:8]), false
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
