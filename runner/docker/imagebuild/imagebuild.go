// Package imagebuild builds the image that benchmarks run in, with the local
// Docker engine, from a build context that the KITT server packs.
//
// [Repack] makes of a foreign archive the tar that the engine takes, checking
// each entry while it streams by; [PackDirectory] makes such an archive of a local
// directory. [Build] streams either to the engine's builder and tells what that
// prints.
package imagebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// Options say what is built, and how.
type Options struct {
	// Context is the build context: a tar, with or without gzip.
	Context io.Reader

	// Limits bound it.
	Limits Limits

	// Dockerfile is the path within the context of the file to build by, such as
	// ServerDockerfile.
	Dockerfile string

	// Tags are the image's names.
	Tags []string

	// NoCache repeats every step.
	NoCache bool

	// Args are build arguments, such as the proxies that steps are to use.
	Args map[string]string

	// Output is handed each line that the builder prints, without its newline
	// and without control characters.
	Output func(line string)
}

// An Image is what was built.
type Image struct {
	ID           string        `json:"id"`
	Tags         []string      `json:"tags"`
	Architecture string        `json:"architecture"`
	OS           string        `json:"os"`
	Bytes        int64         `json:"bytes"` // of all its layers
	Took         time.Duration `json:"-"`
}

// A BuildError says that a step of the build failed.
type BuildError struct{ Message string }

// Error returns the builder's own words.
func (e *BuildError) Error() string { return "the image could not be built: " + e.Message }

// checkTimeout bounds a question to the engine.
const checkTimeout = 10 * time.Second

// Check returns nil if the engine answers, and otherwise what to do about it.
func Check(ctx context.Context, engine *client.Client) error {
	asking, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := engine.ServerVersion(asking, client.ServerVersionOptions{})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return explain(engine, err)
	}
	return nil
}

// Build builds an image. The engine cancels the build when ctx is done, and the
// error then is ctx's cause. It is a [*ContextError] where the context is at fault,
// a [*BuildError] where a step failed.
func Build(ctx context.Context, engine *client.Client, o Options) (Image, error) {
	begun := time.Now()
	args := make(map[string]*string, len(o.Args))
	for name, value := range o.Args {
		args[name] = &value
	}
	body, pack := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := Repack(ctx, pack, o.Context, o.Dockerfile, o.Limits)
		pack.CloseWithError(err)
		packed <- err
	}()
	id, err := o.stream(ctx, engine, body, client.ImageBuildOptions{
		Tags: o.Tags, Dockerfile: o.Dockerfile, NoCache: o.NoCache, BuildArgs: args,
		Remove: true, ForceRemove: true,
	})
	body.Close()
	packErr := <-packed
	switch {
	case ctx.Err() != nil:
		return Image{}, context.Cause(ctx)
	case packErr != nil && !errors.Is(packErr, io.ErrClosedPipe):
		return Image{}, packErr
	case err != nil:
		return Image{}, explain(engine, err)
	}
	image := Image{ID: id, Tags: o.Tags, Took: time.Since(begun)}
	if id == "" {
		id = o.Tags[0]
	}
	made, err := engine.ImageInspect(ctx, id)
	if err != nil {
		return Image{}, explain(engine, fmt.Errorf("look at the new image: %w", err))
	}
	image.ID, image.Architecture, image.OS, image.Bytes = made.ID, made.Architecture, made.Os, made.Size
	return image, nil
}

// stream has the engine build, hands on what it prints and returns the image's
// ID.
func (o Options) stream(ctx context.Context, engine *client.Client, body io.Reader, options client.ImageBuildOptions) (id string, err error) {
	answer, err := engine.ImageBuild(ctx, body, options)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	lines := lineWriter{print: o.Output}
	defer lines.end()
	decoder := json.NewDecoder(answer.Body)
	for {
		var m message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return id, nil
		} else if err != nil {
			return "", fmt.Errorf("the engine's answer was cut: %w", err)
		}
		if m.Error != "" || m.Detail != nil {
			lines.end()
			return "", &BuildError{Message: m.reason()}
		}
		if m.Aux.ID != "" {
			id = m.Aux.ID
		}
		lines.write(m.Stream)
		if m.Status != "" && len(m.Progress) == 0 {
			lines.write(strings.TrimPrefix(m.ID+": "+m.Status+"\n", ": "))
		}
	}
}

// A message is one of the builder's, as the Engine API's POST /build describes
// it. Those with a progress only repeat how far a layer is.
type message struct {
	Stream   string          `json:"stream"`
	Status   string          `json:"status"`
	ID       string          `json:"id"`
	Progress json.RawMessage `json:"progressDetail"`
	Error    string          `json:"error"`
	Detail   *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	Aux struct {
		ID string `json:"ID"`
	} `json:"aux"`
}

func (m message) reason() string {
	text := m.Error
	if text == "" {
		text = m.Detail.Message
	}
	if strings.Contains(text, "no space left on device") {
		text += " (make room, for example with: docker system prune)"
	}
	return text
}

// explain adds to an error of the engine what to do about it, where that is known.
func explain(engine *client.Client, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "permission denied"):
		return fmt.Errorf("the Docker engine at %s lets this user not in; try: sudo usermod -aG docker $USER, and log in again: %w", engine.DaemonHost(), err)
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("the Docker engine at %s does not answer; try: sudo systemctl start docker: %w", engine.DaemonHost(), err)
	case strings.Contains(text, "no space left on device"):
		return fmt.Errorf("%w (make room, for example with: docker system prune)", err)
	}
	return err
}
