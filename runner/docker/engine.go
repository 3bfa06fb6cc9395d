package docker

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/internal/base"
)

// known returns the container's state by its ID, which may have to be found.
func (f *follower) known(ctx context.Context) (*container.State, error) {
	if f.id == "" {
		id, err := f.await(ctx, func() (string, error) { return f.r.find(ctx, f.job, "") })
		if err != nil {
			return nil, err
		}
		if id == "" {
			return nil, lost("its container was removed, and not by this agent")
		}
		f.id = id
	}
	return f.state(ctx)
}

// maxLastWords bounds what is quoted of a container's own log, in bytes.
const maxLastWords = 4 << 10

// lastWords returns the end of the container's own log, which holds what its
// supervisor says, as the end of a sentence; nothing if it can't be had.
func (f *follower) lastWords(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, f.r.config.Timeout)
	defer cancel()
	stream, err := f.r.engine.ContainerLogs(ctx, f.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "3"})
	if err != nil {
		return ""
	}
	defer stream.Close()
	var text bytes.Buffer
	// What is cut off or broken is quoted as far as it goes.
	_, _ = stdcopy.StdCopy(&text, &text, io.LimitReader(stream, maxLastWords))
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if last := base.Printable(base.OneLine(lines[len(lines)-1]), 300); last != "" {
		return ": " + last
	}
	return ""
}
