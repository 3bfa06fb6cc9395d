package policy

import (
	"fmt"
	"os"
	"strconv"
)

// pathOf returns the path of an open directory as the kernel has it
// (proc_pid_fd(5)). Without /proc it is the path by which it was opened.
func pathOf(dir *os.File, opened string) (string, error) {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
	if err != nil {
		return opened, nil
	}
	there, err := os.Stat(at)
	if err != nil {
		return "", fmt.Errorf("it was removed or replaced: %w", err)
	}
	held, err := dir.Stat()
	if err == nil && !os.SameFile(there, held) {
		err = fmt.Errorf("%s was replaced", at)
	}
	return at, err
}
