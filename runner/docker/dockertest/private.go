package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// A Private is a Docker engine that belongs to one test, which may stop, freeze
// and kill it without harm to anybody else. It has a directory of its own for
// all that it keeps, and a network of its own, without which an engine takes
// down the bridge of the machine's. It needs root and the programs dockerd and
// containerd.
type Private struct {
	Engine

	// Host is the engine's address, for docker.Config.
	Host string

	dir        string
	options    []string
	containerd *exec.Cmd // apart from the engine, as it is on a real machine
	process    *exec.Cmd
	log        *os.File

	containerdArgs []string
}

// StartPrivate starts an engine that keeps everything below dir. The options
// are dockerd's, such as --live-restore. The caller closes it.
func StartPrivate(ctx context.Context, dir string, options ...string) (*Private, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a Docker engine of our own needs root")
	}
	// Else the machine's own are read.
	config, containerd := filepath.Join(dir, "daemon.json"), filepath.Join(dir, "containerd.toml")
	err := errors.Join(
		os.WriteFile(config, []byte("{}"), 0o600),
		os.WriteFile(containerd, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	below := func(name string) string { return filepath.Join(dir, name) }
	p := &Private{Host: "unix://" + below("sock"), dir: dir, log: log}
	p.options = append([]string{
		"--config-file", config, "--host", p.Host, "--pidfile", below("pid"), "--containerd", below("containerd.sock"),
		"--data-root", below("data"), "--exec-root", below("exec"), "--storage-driver", "vfs",
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false",
	}, options...)
	p.containerdArgs = []string{
		"--config", containerd, "--root", below("containerd"), "--state", below("run"), "--address", below("containerd.sock"),
	}
	p.containerd, err = p.startProgram("containerd", p.containerdArgs...)
	if err == nil {
		p.Client, err = client.New(client.WithHost(p.Host))
	}
	if err == nil {
		err = p.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Private) startProgram(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// A group of their own: Ctrl-C at a terminal ends the test, which ends them.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// Start starts the engine again after Kill or Stop, and returns once it answers.
func (p *Private) Start(ctx context.Context) error {
	var err error
	p.process, err = p.startProgram("dockerd", p.options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		version, err := p.Client.ServerVersion(ctx, client.ServerVersionOptions{})
		if err == nil {
			p.Arch = version.Arch
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("an engine of our own does not answer: %w; its log: %s", err, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Signal sends the engine a signal: SIGSTOP freezes it, SIGCONT thaws it.
func (p *Private) Signal(sig unix.Signal) error { return p.process.Process.Signal(sig) }

// Kill kills the engine, which leaves its containers running. Without
// --live-restore the next Start ends them.
func (p *Private) Kill() error {
	err := end(p.process, unix.SIGKILL)
	p.process = nil
	return err
}

// KillContainerd kills containerd, which leaves containers and their shims running,
// and starts it again.
func (p *Private) KillContainerd() error {
	if err := p.StopContainerd(); err != nil {
		return err
	}
	return p.StartContainerd()
}

// StopContainerd kills containerd alone, which leaves containers and their shims
// running.
func (p *Private) StopContainerd() error {
	err := end(p.containerd, unix.SIGKILL)
	p.containerd = nil
	return err
}

// StartContainerd starts containerd after StopContainerd.
func (p *Private) StartContainerd() error {
	var err error
	p.containerd, err = p.startProgram("containerd", p.containerdArgs...)
	return err
}

// Stop ends the engine in good order. Without --live-restore its containers end
// first.
func (p *Private) Stop() error {
	err := end(p.process, unix.SIGTERM)
	p.process = nil
	return err
}

// end sends a signal to a program and waits for its end. A nil one has ended.
func end(program *exec.Cmd, sig unix.Signal) error {
	if program == nil {
		return nil
	}
	err := program.Process.Signal(sig)
	late := time.AfterFunc(timeout, func() { _ = program.Process.Kill() })
	defer late.Stop()
	// That a signal has ended it is what was wanted.
	var exit *exec.ExitError
	if waitErr := program.Wait(); !errors.As(waitErr, &exit) {
		err = errors.Join(err, waitErr)
	}
	return err
}

// Close ends the engine, its containers, and what it mounted.
func (p *Private) Close() error {
	var errs []error
	if p.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		list, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
		errs = append(errs, err)
		for _, c := range list.Items {
			_, err := p.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true})
			errs = append(errs, err)
		}
	}
	errs = append(errs, p.Stop(), end(p.containerd, unix.SIGTERM))
	p.killShims()
	errs = append(errs, p.unmount(), p.log.Close())
	if p.Client != nil {
		errs = append(errs, p.Client.Close())
	}
	return errors.Join(errs...)
}

// unmount takes down what is mounted below the directory, the last first.
func (p *Private) unmount() error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if fields := strings.Fields(lines[i]); len(fields) > 1 && strings.HasPrefix(fields[1], p.dir+"/") {
			errs = append(errs, unix.Unmount(fields[1], unix.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}

// tail returns the end of the engine's log.
func (p *Private) tail() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}
