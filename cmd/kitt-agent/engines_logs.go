package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/native"
)

const (
	// maxEngineTail bounds what is read of an engine's output for its last lines.
	maxEngineTail = 8 << 20 // bytes

	// engineLogPause is the time between two looks at a file that is followed.
	engineLogPause = 200 * time.Millisecond
)

// newEnginesLogsCommand returns `kitt-agent engines logs`.
func newEnginesLogsCommand(env *environment) *cobra.Command {
	var follow, asJSON bool
	tail := 100
	cmd := &cobra.Command{
		Use:   "logs ENGINE",
		Short: "Show the output of an engine that the agent started",
		Long: `Show the last output of an engine that the agent started, also after it has ended. No
agent is needed. Of a large output the oldest part is not kept.`,
		Example: "  kitt-agent engines logs llama_cpp\n  kitt-agent engines logs llama_cpp --tail 1000 --follow",
		Args:    exactly(1, "the name of an engine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if spec, ok := engine.Lookup(args[0]); !ok || !spec.Startable() {
				return usageError("kitt-agent engines logs llama_cpp", "%s is not one of %s", quote(args[0]), engineNames())
			}
			if tail < 0 || tail > maxTailLines {
				return usageError("kitt-agent engines logs llama_cpp --tail 100", "--tail is %d, not from 0 to %d", tail, maxTailLines)
			}
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			file, err := base.OpenRegular(native.OutputFile(enginesDir(cfg), args[0]))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("this agent has not started %s yet", args[0])
			}
			if err != nil {
				return err
			}
			defer file.Close()
			printer := &logPrinter{out: env.stdout, json: asJSON, terminal: logging.IsTerminal(env.stdout)}
			print := printer.line
			if asJSON {
				print = func(line string) error { return printer.encode(map[string]string{"line": line}) }
			}
			return showOutput(cmd.Context(), file, tail, follow, print)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the engine prints")
	cmd.Flags().IntVar(&tail, "tail", tail, "the last `lines` of what there is")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

// showOutput prints the last lines of a file, and with follow what comes after them.
func showOutput(ctx context.Context, file *os.File, tail int, follow bool, print func(line string) error) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	at := max(0, info.Size()-maxEngineTail)
	text, err := io.ReadAll(io.NewSectionReader(file, at, info.Size()-at))
	if err != nil {
		return err
	}
	at += int64(len(text))
	text = bytes.TrimLeft(text, "\x00") // what was removed to save space
	whole, rest := cutLast(string(text))
	if !follow && rest != "" {
		whole, rest = append(whole, rest), ""
	}
	for _, line := range whole[max(0, len(whole)-tail):] {
		if err := print(line); err != nil {
			return err
		}
	}
	for buf := make([]byte, 256<<10); follow; {
		n, err := file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		at += int64(n)
		whole, rest = cutLast(rest + string(buf[:n]))
		for _, line := range whole {
			if err := print(line); err != nil {
				return err
			}
		}
		if n == 0 && base.Wait(ctx, engineLogPause) != nil {
			return nil // the usual way to stop following
		}
		if len(rest) > maxEngineTail {
			rest = ""
		}
	}
	return nil
}

// cutLast returns the whole lines of text, and what comes after the last newline.
func cutLast(text string) (lines []string, rest string) {
	all := strings.Split(text, "\n")
	for _, line := range all[:len(all)-1] {
		lines = append(lines, strings.TrimSuffix(line, "\r"))
	}
	return lines, all[len(all)-1]
}
