// Package slurmtest starts real Slurm clusters for tests, each in a directory of its
// own: munge, slurmctld, one slurmd per node with GPUs that are only files, and with
// [Config.Accounting] slurmdbd and its database. A test may stop, freeze and kill each
// daemon without harm to anybody else.
//
// A cluster of two nodes starts in a few seconds. It reads and writes nothing of the
// machine's own Slurm. It needs root, because a GPU is a character device, and the
// Debian packages slurm-wlm and munge, for accounting also slurmdbd and mariadb-server.
package slurmtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// Config says what a cluster is like. Its zero value is two nodes without accounting.
type Config struct {
	// Nodes is how many nodes there are, named n1, n2 and so on. Defaults to 2.
	Nodes int

	// GPUs is how many GPUs each node has, of the type h200. Defaults to 8.
	GPUs int

	// Accounting adds slurmdbd, and with it what sacct knows.
	Accounting bool

	// Hidden is an existing directory that the nodes don't see, as one that is not shared.
	Hidden string

	// Over is what the nodes see in place of the directory Hidden; empty for nothing. It
	// may be another mount of the same file system.
	Over string

	// Lines are added to slurm.conf, and replace lines of the same key.
	Lines []string
}

// Partition is the cluster's partition, its default.
const Partition = "gpu"

// Account is the account of the user who starts the cluster, with Config.Accounting.
const Account = "bench"

// startLimit is how long the cluster, or one daemon, may take to answer.
const startLimit = time.Minute

// A Cluster is a Slurm cluster that belongs to one test.
type Cluster struct {
	cfg     Config
	dir     string
	daemons map[string]*daemon
	order   []string // in which they were started
}

// Missing returns an error that names what this machine lacks for a cluster of cfg, and
// nil if it lacks nothing.
func Missing(cfg Config) error {
	if os.Geteuid() != 0 {
		return errors.New("a Slurm cluster of our own needs root")
	}
	programs := []string{"munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo"}
	if cfg.Accounting {
		programs = append(programs, "slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
	}
	var missing []string
	for _, name := range programs {
		if _, err := find(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("there is no %s; install the packages slurm-wlm, munge, slurmdbd and mariadb-server", strings.Join(missing, ", "))
	}
	return nil
}

// find returns the path of a program, which may be one for administrators.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	return path, nil
}

// Start starts a cluster that keeps everything below dir, and returns once its nodes
// are idle. The path of dir is short: sockets are in it. The caller closes the cluster.
func Start(ctx context.Context, dir string, cfg Config) (*Cluster, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 2
	}
	if cfg.GPUs == 0 {
		cfg.GPUs = 8
	}
	if err := Missing(cfg); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c := &Cluster{cfg: cfg, dir: dir, daemons: map[string]*daemon{}}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a Slurm cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.writeFiles(); err != nil {
		return err
	}
	err := c.launch("munged", "--foreground", "--force", "--key-file", c.path("munge.key"), "--socket", c.path("munge.sock"),
		"--seed-file", c.path("munge.seed"), "--pid-file", c.path("munge.pid"), "--log-file", c.path("munged.file.log"))
	if err == nil {
		err = c.await(ctx, "munged", func() error {
			_, err := os.Stat(c.path("munge.sock"))
			return err
		})
	}
	if err == nil && c.cfg.Accounting {
		err = c.startAccounting(ctx)
	}
	if err == nil {
		err = c.launch(Controller, "-D", "-c", "-f", c.path("slurm.conf"))
	}
	for i := 1; err == nil && i <= c.cfg.Nodes; i++ {
		node := "n" + strconv.Itoa(i)
		err = c.launchNode(node)
	}
	if err == nil {
		err = c.AwaitIdle(ctx)
	}
	return err
}

// AwaitIdle returns once all nodes are idle.
func (c *Cluster) AwaitIdle(ctx context.Context) error {
	return c.await(ctx, Controller, func() error {
		out, err := c.Output(ctx, "sinfo", "-h", "-N", "-o", "%T")
		if err != nil {
			return err
		}
		if states := strings.Fields(out); len(states) != c.cfg.Nodes || strings.Count(out, "idle\n") != c.cfg.Nodes {
			return fmt.Errorf("the nodes are %v", states)
		}
		return nil
	})
}

// await returns once look returns nil. The daemon name is to blame if that takes too long.
func (c *Cluster) await(ctx context.Context, name string, look func() error) error {
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w; its log: %s", name, context.Cause(ctx), err, c.Log(name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Env returns the variables by which Slurm's commands find the cluster.
func (c *Cluster) Env() []string { return []string{"SLURM_CONF=" + c.path("slurm.conf")} }

// Dir returns the directory of the cluster.
func (c *Cluster) Dir() string { return c.dir }

// Command returns one of Slurm's commands, ready to be run against the cluster.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), c.Env()...)
	return cmd
}

// Output runs one of Slurm's commands and returns what it printed. The error has what
// it said on standard error.
func (c *Cluster) Output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := c.Command(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// Close ends all daemons and all that jobs have left. It may be called twice.
func (c *Cluster) Close() error {
	var errs []error
	for i := len(c.order) - 1; i >= 0; i-- {
		errs = append(errs, c.daemons[c.order[i]].kill())
	}
	c.order = nil
	// Jobs outlive slurmd, and the processes that watch over them too.
	ended := procfs.Kill(func() []procfs.Process {
		jobs, _ := procfs.WithEnv(c.Env()[0])
		daemons, _ := procfs.WithEnv(c.mark())
		return append(jobs, daemons...)
	}, 10*time.Second)
	if !ended {
		errs = append(errs, errors.New("processes of the cluster can't be killed"))
	}
	return errors.Join(errs...)
}

// mark is in the environment of every daemon.
func (c *Cluster) mark() string { return "KITT_SLURMTEST_DIR=" + c.dir }

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// freePorts returns n TCP ports of this machine on which no process listens.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// makeGPU makes a device that stands for a GPU: /dev/null, which is 1, 3 (null(4)).
func makeGPU(path string) error {
	return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}
