package supervisor

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// strayGrace is what processes that the benchmark left behind get between
// SIGTERM and SIGKILL.
const strayGrace = time.Second

// endStrays ends what the benchmark left behind. All of it has become a child
// of this process, or comes from one.
func endStrays() {
	left := func() []procfs.Process {
		for {
			if got, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); got <= 0 || err != nil {
				break
			}
		}
		return procfs.Descendants(procfs.All(), os.Getpid())
	}
	procfs.Signal(left(), unix.SIGTERM)
	for end := time.Now().Add(strayGrace); len(left()) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	procfs.Kill(left, time.Minute)
}
