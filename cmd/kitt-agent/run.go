package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitDegraded   = 4
)

// environment is what a command finds around itself.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	configPath string // --config
	insecure   bool   // --insecure
}

// run runs one command line and returns the exit code of the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	env := &environment{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv}
	return env.run(ctx, args)
}

func (env *environment) run(ctx context.Context, args []string) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	addStandardCommands(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitFailure
	var coded *codedError
	switch {
	case errors.As(err, &coded):
		code = coded.code
	case isFlagFault(err):
		code = exitUsage
		err = fmt.Errorf("%w\ntry: %s --help", err, cmd.CommandPath())
	case errors.Is(err, client.ErrNotRunning):
		code = exitNotRunning
		err = fmt.Errorf("%w; start it with: kitt-agent start", err)
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	if text := err.Error(); text != "" {
		env.say("kitt-agent: %s", strings.ReplaceAll(text, "\n", "\nkitt-agent: "))
	}
	return code
}

// isFlagFault reports whether the value of a flag is what is wrong with the
// settings.
func isFlagFault(err error) bool {
	fault, ok := errors.AsType[*config.Error](err)
	return ok && fault.File == config.CommandLine
}

// codedError is an error with an exit code of its own. With an empty text
// everything has been said.
type codedError struct {
	code int
	text string
}

func (e *codedError) Error() string { return e.text }

// usageError is the error of a command line that makes no sense. example is one
// that does.
func usageError(example, format string, args ...any) error {
	return &codedError{exitUsage, fmt.Sprintf(format, args...) + "\ntry: " + example}
}

// say writes a line for a person to standard error.
func (env *environment) say(format string, args ...any) {
	// Where standard error is gone there is nobody to tell.
	_, _ = fmt.Fprintf(env.stderr, format+"\n", args...)
}

// printJSON writes v to standard output, indented.
func (env *environment) printJSON(v any) error { return writeJSON(env.stdout, v) }

// writeJSON writes v, indented.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// config returns the settings in force, and says what is odd about them.
func (env *environment) config(flags map[string]string) (*config.Config, error) {
	c, warnings, err := config.Sources{Path: env.configPath, Getenv: env.getenv, Flags: flags}.Resolve()
	for _, w := range warnings {
		env.say("kitt-agent: warning: %s", w)
	}
	switch {
	case isFlagFault(err):
		return nil, err
	case err != nil:
		return nil, &codedError{exitFailure, err.Error()}
	case env.configPath != "" && !c.Exists():
		// The defaults would make another agent of it: one with another name, at
		// another port.
		return nil, &codedError{exitFailure, fmt.Sprintf("there is no %s\ntry: kitt-agent init --config %[1]s", printable(env.configPath))}
	}
	if c.Insecure = env.insecure; c.Insecure {
		env.say("kitt-agent: warning: %s", insecureWarning)
	}
	return c, nil
}

// changed returns the values of the flags that were given, by the names of the
// keys that they set.
func changed(cmd *cobra.Command, keys map[string]string) map[string]string {
	given := map[string]string{}
	for flag, key := range keys {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			given[key] = f.Value.String()
		}
	}
	return given
}
