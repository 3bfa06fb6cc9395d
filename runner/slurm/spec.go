package slurm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// Names of the files in Job.Dir/slurm; see the package comment.
const (
	intentFile    = "intent.json"
	submittedFile = "submitted.json"
	specFile      = "spec.json"
	logFile       = "slurm.log"
	statusFile    = "status.json"
	claimFile     = supervisor.ClaimFile
)

// MachineFile is the file in Job.Dir/slurm with what a node said of itself; see
// Config.Describe.
const MachineFile = "machine.json"

// version is that of the files of this package. Keys are only added.
const version = 1

// maxState bounds a file of this package, in bytes: an environment may be 2 MiB on
// Linux and grows where JSON escapes it.
const maxState = 16 << 20

// An intent says that a job is to be submitted.
type intent struct {
	Version int       `json:"version"`
	Job     string    `json:"job"`
	Name    string    `json:"name"` // at Slurm
	Script  string    `json:"script"`
	At      time.Time `json:"at"`
}

// submitted are the IDs that Slurm gave a job.
type submitted struct {
	Version int      `json:"version"`
	IDs     []string `json:"ids"`
}

func (i intent) version() int    { return i.Version }
func (s submitted) version() int { return s.Version }

func writeState(dir, name string, v any) error {
	return base.WriteJSON(filepath.Join(dir, name), v, maxState)
}

// readState reads one of this package's files. The error matches [os.ErrNotExist] if
// there is none, and [supervisor.ErrVersion] for one of a newer agent's.
func readState[T interface{ version() int }](dir, name string) (v T, err error) {
	path := filepath.Join(dir, name)
	if err := base.ReadJSON(path, &v, maxState); err != nil {
		return v, err
	}
	switch n := v.version(); {
	case n > version:
		return v, fmt.Errorf("%s: version %d: %w", path, n, supervisor.ErrVersion)
	case n < 1:
		return v, fmt.Errorf("%s: it has no version", path)
	}
	return v, nil
}

// prepare makes the files that the node and this machine look at all the time.
func prepare(dir string) error { return supervisor.Prepare(dir) }

// A Spec is the file spec.json: what the wrapper runs on the node.
type Spec struct {
	Version int        `json:"version"`
	Job     runner.Job `json:"job"`
	Command []string   `json:"command"` // see Command
	After   []string   `json:"after,omitempty"`
	Env     []string   `json:"env,omitempty"` // added to that of the node

	Describe []string `json:"describe,omitempty"`
	Fetch    []string `json:"fetch,omitempty"`

	Limit int64         `json:"limit,omitempty"` // see supervisor.Config
	Grace time.Duration `json:"grace"`           // in nanoseconds
}

func (s Spec) version() int { return s.Version }

func (s Spec) write(dir string) error { return writeState(dir, specFile, s) }

func (r *Runner) specOf(job runner.Job) Spec {
	if job.Image == "" {
		job.Image = r.cfg.Image
	}
	return Spec{
		Version: version, Job: job, Command: r.cfg.Command, After: r.cfg.After, Env: r.cfg.Env, Describe: r.cfg.Describe, Fetch: r.cfg.Fetch,
		Limit: supervisor.LimitOf(r.cfg.LogLimit), Grace: job.Grace(),
	}
}

// argsWord is the element of a command line that stands for all arguments of kitt.
const argsWord = "{args}"

// Other elements that stand for several words, or none.
const (
	volumesWord = "{volumes}" // of docker and podman
	bindsWord   = "{binds}"   // of apptainer
	devicesWord = "{devices}" // of podman and of Docker from 25 on, in the names of CDI
)

// listWords are all of them.
var listWords = []string{argsWord, volumesWord, bindsWord, devicesWord}

// placeholders are the texts that a command line may hold within a word.
var placeholders = []string{"{job}", "{dir}", "{results}", "{model}", "{model_dir}", "{image}", "{engine}", "{suite}", "{gpus}"}

// CheckCommand returns an error if a command line can't be one for [Command].
func CheckCommand(command []string) error {
	if len(command) == 0 || command[0] == "" {
		return errors.New("there is no program")
	}
	for _, word := range command {
		if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%q has a control character", word)
		}
		if slices.Contains(listWords, word) {
			continue
		}
		rest := word
		for _, p := range placeholders {
			rest = strings.ReplaceAll(rest, p, "")
		}
		if _, after, found := strings.Cut(rest, "{"); found && strings.Contains(after, "}") {
			return fmt.Errorf("%q has a placeholder other than %s, and %s as words of their own",
				word, strings.Join(placeholders, ", "), strings.Join(listWords, ", "))
		}
	}
	return nil
}

// Command returns the command line for job on a node. Of the words of template, {args}
// stands for the arguments of `kitt`, which come last if it is missing. Within a word
// these are replaced: {job} by the job's ID, {dir} by its directory of this package,
// {results} by that of its results, {model} by the model, {model_dir} by the directory
// that holds it, {image}, {engine} and {suite} by the job's, and {gpus} by the indexes of
// the GPUs that Slurm gave the job, such as 0,1. As words of their own, {volumes} stands
// for the options of docker and podman, and {binds} for those of apptainer, that mount
// the results and the model, and {devices} for the GPUs as --device options. No shell
// reads it.
func Command(template []string, job runner.Job) []string {
	line := render(template, job)
	if !slices.Contains(template, argsWord) {
		line = append(line, job.Arguments()...)
	}
	return line
}

// render replaces the placeholders of a command line.
func render(template []string, job runner.Job) (line []string) {
	gpus := strings.Join(job.GPUs, ",")
	modelDir := job.Model
	if filepath.IsAbs(job.Model) && (len(job.ModelFiles) > 0 || !isDir(job.Model)) {
		modelDir = filepath.Dir(job.Model)
	}
	replace := strings.NewReplacer("{job}", job.ID, "{dir}", directory(job), "{results}", job.ResultsDir, "{model}", job.Model,
		"{model_dir}", modelDir, "{image}", job.Image, "{engine}", job.Engine, "{suite}", job.Suite, "{gpus}", gpus)
	for _, word := range template {
		switch word {
		case argsWord:
			line = append(line, job.Arguments()...)
		case volumesWord, bindsWord:
			option := map[string]string{volumesWord: "--volume=", bindsWord: "--bind="}[word]
			line = append(line, option+job.ResultsDir+":"+job.ResultsDir)
			if filepath.IsAbs(modelDir) {
				line = append(line, option+modelDir+":"+modelDir+":ro")
			}
		case devicesWord:
			for _, gpu := range strings.FieldsFunc(gpus, func(r rune) bool { return r == ',' }) {
				line = append(line, "--device=nvidia.com/gpu="+gpu)
			}
		default:
			line = append(line, replace.Replace(word))
		}
	}
	return line
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// script returns the batch script: an interpreter line, by which the node's kernel
// starts the wrapper with the paths of the script and of spec.json. No shell reads it.
func script(program, argument string) string {
	return strings.TrimRight("#!"+program+" "+argument, " ") + "\n"
}

// maxInterpreter is what the kernel takes of an interpreter line, in bytes: 127 before
// Linux 5.1 (execve(2)).
const maxInterpreter = 127

// checkScript returns an error if the wrapper can't be on an interpreter line.
func checkScript(program, argument string) error {
	line := strings.TrimSuffix(script(program, argument), "\n")
	if len(line) <= maxInterpreter && filepath.IsAbs(program) && !strings.ContainsAny(program+argument, " \t\n") {
		return nil
	}
	return &runner.Error{
		Class: runner.ClassPath, Err: runner.ErrUnavailable,
		Text: fmt.Sprintf("the path of the program for nodes, %s, has blanks or more than %d characters", program, maxInterpreter-2),
		Fix:  "choose a shorter slurm.shared_dir",
	}
}
