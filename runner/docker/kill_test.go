package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// A drive is what an agent does with a job, as a program that can be killed: it
// goes on with the run that an earlier one began, or begins it, and appends each
// piece of output to the file log in the job's directory, with its position.
// What is in there is where the next one goes on.
type drive struct {
	Job          runner.Job
	Image, Owner string
	Supervisor   string
	Proxy        string
	Images       []string // that the benchmark may start
}

// A piece is a line of that file.
type piece struct {
	Text []byte
	From runner.Position
}

func (d drive) log() string { return filepath.Join(d.Job.Dir, "log") }

// read returns the text that is kept and the position behind it. A piece that
// was cut off by a kill doesn't count.
func (d drive) read() (text string, next runner.Position, size int64, err error) {
	data, err := os.ReadFile(d.log())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", next, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var p piece
		if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &p) != nil {
			break
		}
		text += string(p.Text)
		next = p.From
		next += runner.Position(len(p.Text))
		size += int64(len(line))
	}
	return text, next, size, nil
}

func (d drive) run(ctx context.Context) error {
	_, from, size, err := d.read()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(d.log(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.Truncate(size); err != nil {
		return err
	}
	if _, err := log.Seek(size, io.SeekStart); err != nil {
		return err
	}
	r, err := docker.New(docker.Config{DefaultImage: d.Image, Owner: d.Owner, Supervisor: program.Source{Path: d.Supervisor}, SocketProxy: program.Source{Path: d.Proxy}, EngineImages: d.Images})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.Resume(ctx, d.Job, from, pieces{log})
	if errors.Is(err, runner.ErrNotStarted) {
		_, err = r.Run(ctx, d.Job, pieces{log})
	}
	return err
}

type pieces struct{ file *os.File }

func (o pieces) WriteMessage(string) error { return nil }

func (o pieces) WriteOutput(p []byte, _ time.Time, from runner.Position) error {
	data, err := json.Marshal(piece{p, from})
	if err != nil {
		return err
	}
	_, err = o.file.Write(append(data, '\n'))
	return err
}

// start starts a program that calls run.
func (d drive) start(t *testing.T) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	d.Supervisor, d.Proxy = superviseProgram, proxyProgram
	spec, err := json.Marshal(d)
	require.NoError(t, err)
	cmd := exec.Command(exe, "drive", string(spec))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

// driveMain is the whole of that program.
func driveMain(spec string) int {
	var d drive
	err := json.Unmarshal([]byte(spec), &d)
	if err == nil {
		err = d.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestTheAgentIsKilled kills what follows a container three times, while that
// prints a line each 50 ms.
func TestTheAgentIsKilled(t *testing.T) {
	needEngine(t)
	t.Parallel()
	d := drive{Job: newJob(t, "fake:lines=80,delay=50ms"), Image: image, Owner: "test-" + t.Name()}
	for n := 1; n <= 3; n++ {
		driver := d.start(t)
		require.Eventually(t, func() bool {
			text, _, _, err := d.read()
			return err == nil && strings.Contains(text, fmt.Sprintf("line %d\n", n*20))
		}, 30*time.Second, 5*time.Millisecond)
		require.NoError(t, driver.Process.Kill())
		require.Error(t, driver.Wait())
		require.Len(t, containers(t, d.Job), 1)
	}
	require.NoError(t, d.start(t).Wait())
	text, _, _, err := d.read()
	require.NoError(t, err)
	require.Equal(t, lines(0, 80), text)
	require.Empty(t, containers(t, d.Job))
	require.FileExists(t, filepath.Join(d.Job.ResultsDir, "metrics.json"))
}

// TestTheAgentIsKilledInAFlood does so while lines come as fast as they can,
// many of them with the same stamp.
func TestTheAgentIsKilledInAFlood(t *testing.T) {
	needEngine(t)
	t.Parallel()
	d := drive{Job: newJob(t, "fake:lines=30000"), Image: image, Owner: "test-" + t.Name()}
	for n := range 3 {
		driver := d.start(t)
		require.Eventually(t, func() bool {
			info, err := os.Stat(d.log())
			return err == nil && info.Size() > int64(n)*200_000
		}, 30*time.Second, time.Millisecond)
		require.NoError(t, driver.Process.Kill())
		_ = driver.Wait() // it may have come to its end before
	}
	require.NoError(t, d.start(t).Wait())
	text, _, _, err := d.read()
	require.NoError(t, err)
	require.Equal(t, lines(0, 30000), text)
}

// TestTheAgentIsKilledWhileItStarts kills it at moments around the container's
// creation, which the engine finishes all the same.
func TestTheAgentIsKilledWhileItStarts(t *testing.T) {
	needEngine(t)
	t.Parallel()
	for n := range 4 {
		d := drive{Job: newJob(t, "fake:lines=20,delay=10ms"), Image: image, Owner: "test-" + t.Name()}
		for k := range 2 {
			driver := d.start(t)
			<-time.After(time.Duration(20+n*25+k*10) * time.Millisecond)
			require.NoError(t, driver.Process.Kill())
			_ = driver.Wait()
		}
		require.NoError(t, d.start(t).Wait())
		text, _, _, err := d.read()
		require.NoError(t, err)
		require.Equal(t, lines(0, 20), text)
		require.Empty(t, containers(t, d.Job))
	}
}
