package slurm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// allowedArgs are the options of sbatch that an owner may add. Those that this package
// sets itself, that take a file or a command, or that change who a job belongs to, are
// not among them.
var allowedArgs = []string{
	"--batch", "--comment", "--constraint", "--contiguous", "--core-spec", "--cores-per-socket", "--cpus-per-gpu",
	"--cpus-per-task", "--exclude", "--gpu-bind", "--gpu-freq", "--gpus-per-node", "--gres-flags", "--hint", "--licenses", "--mem",
	"--mem-bind", "--mem-per-cpu", "--mem-per-gpu", "--mincpus", "--network", "--nice", "--nodelist", "--priority", "--reservation",
	"--sockets-per-node", "--switches", "--threads-per-core", "--tmp", "--use-min-nodes", "--wckey",
}

// AllowedArgs returns the options that [CheckArgs] accepts.
func AllowedArgs() []string { return slices.Clone(allowedArgs) }

// CheckArgs returns an error that names the first of args that may not be added to
// sbatch. Each is one option in the form --name or --name=value.
func CheckArgs(args []string) error {
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		if !slices.Contains(allowedArgs, name) {
			return fmt.Errorf("%q is not an option that may be added; these may: %s", name, strings.Join(allowedArgs, " "))
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("the value of %s has a control character", name)
		}
	}
	return nil
}

// CheckName returns an error if text can't be the name of a partition, account, quality
// of service or type of GPU, or a list of such with commas between them.
func CheckName(text string) error {
	if text == "" || len(text) > 200 {
		return errors.New("it has to have 1 to 200 characters")
	}
	for _, r := range text {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.,", r) {
			continue
		}
		return fmt.Errorf("%q has characters other than letters, digits, '_', '-', '.' and ','", text)
	}
	return nil
}
