package socketproxy

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// maxLine bounds one line of the log, in bytes.
const maxLine = 2000

// A boundedLog writes lines until it has written so many bytes: a benchmark decides how
// often it is refused something.
type boundedLog struct {
	to io.Writer

	mu   sync.Mutex // held while a line is written
	left int        // bytes; guarded by mu
}

// add writes one line with the time.
func (l *boundedLog) add(text string) {
	line := fmt.Sprintf("%s %s\n", time.Now().UTC().Format(time.RFC3339), base.Printable(base.OneLine(text), maxLine))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left -= len(line); l.left >= 0 {
		_, _ = io.WriteString(l.to, line) // a disk that is full takes no log
	}
}
