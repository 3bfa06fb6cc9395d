package supervisor

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
)

// Main is the whole of the program in front of a benchmark:
//
//	kitt-supervise [-limit BYTES] [-done STATUS] [-gpus N [-gpus-only]] -dir DIRECTORY -- COMMAND [ARGUMENT...]
//
// It runs the command with both streams on a file in the directory, passes
// signals on to it and writes down how it ended. It returns the status to exit
// with: the command's own if that failed, STATUS if it succeeded. What it prints
// itself says where the output is.
func Main(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("kitt-supervise", flag.ContinueOnError)
	flags.SetOutput(stdout)
	dir := flags.String("dir", "", "`directory` for the run's files")
	limit := flags.Int64("limit", 0, "most `bytes` of output that are kept; 0 for no ceiling")
	done := flags.Int("done", 0, "exit `status` after a command that succeeded")
	gpus := flags.Int("gpus", 0, "`number` of GPUs that the command has to see; it is not begun with fewer")
	only := flags.Bool("gpus-only", false, "whether it is not begun with more either")
	check := flags.Bool("check", false, "print a word and exit")
	if err := flags.Parse(args); err != nil {
		return StatusFailed
	}
	say := func(format string, args ...any) { fmt.Fprintf(stdout, "kitt-supervise: "+format+"\n", args...) }
	if *check {
		fmt.Fprintln(stdout, CheckWord)
		return 0
	}
	if *dir == "" || flags.NArg() == 0 {
		say("a directory and a command are needed")
		return StatusFailed
	}
	say("the benchmark's output is in %s", filepath.Join(*dir, OutputFile))
	say("how it ended will be in %s", filepath.Join(*dir, ExitFile))
	end, err := Run(Config{Dir: *dir, Command: flags.Args(), Limit: *limit, GPUs: *gpus, GPUsOnly: *only, Forward: true})
	switch {
	case errors.Is(err, ErrTaken):
		say("not started: %v", err)
		return StatusTaken
	case err != nil:
		say("%v", err)
		return StatusFailed
	case end.Error != "":
		say("not started: %s", end.Error)
		return StatusFailed
	case end.Code != 0:
		return end.Code
	}
	return *done
}
