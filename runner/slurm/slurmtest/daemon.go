package slurmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the daemons that a test may kill and freeze, in addition to those of nodes.
const (
	Controller = "slurmctld"
	Accounting = "slurmdbd"
)

// Node returns the name of a node's daemon.
func Node(node string) string { return "slurmd " + node }

// A daemon is a program of the cluster that runs in the foreground.
type daemon struct {
	program string
	args    []string
	log     string
	env     []string
	cmd     *exec.Cmd // nil if it doesn't run
}

// launchNode starts the daemon of a node.
func (c *Cluster) launchNode(node string) error {
	args := []string{"-D", "-N", node, "-f", c.path("slurm.conf")}
	if c.cfg.Hidden == "" {
		return c.launch(Node(node), args...)
	}
	path, err := find("slurmd")
	if err != nil {
		return err
	}
	// In a mount namespace of its own, another directory lies over the hidden one.
	mount := "mount -t tmpfs none"
	if c.cfg.Over != "" {
		mount = `mount --bind "$OVER"`
	}
	script := `mount --make-rprivate / && ` + mount + ` "$1" && shift && exec "$@"`
	return c.launchProgram("unshare", Node(node), append([]string{"--mount", "sh", "-c", script, "sh", c.cfg.Hidden, path}, args...)...)
}

// launch starts a daemon. Its name is that of the program and may have a second word.
func (c *Cluster) launch(name string, args ...string) error {
	program, _, _ := strings.Cut(name, " ")
	return c.launchProgram(program, name, args...)
}

func (c *Cluster) launchProgram(program, name string, args ...string) error {
	d := &daemon{program: program, args: args, log: c.path(strings.ReplaceAll(name, " ", "-") + ".log")}
	d.env = append(os.Environ(), c.mark(), "SLURM_CONF="+c.path("slurm.conf"), "MYSQL_UNIX_PORT="+c.path("mariadb.sock"), "OVER="+c.cfg.Over)
	c.daemons[name] = d
	c.order = append(c.order, name)
	return d.start()
}

func (d *daemon) start() error {
	path, err := find(d.program)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(d.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, d.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, d.env
	// A test that is killed takes them with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd = cmd
	return nil
}

// kill kills the daemon, frozen or not, and waits for its end.
func (d *daemon) kill() error {
	if d.cmd == nil {
		return nil
	}
	err := d.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	// That a signal has ended it is what was wanted.
	var exit *exec.ExitError
	if waitErr := d.cmd.Wait(); !errors.As(waitErr, &exit) {
		err = errors.Join(err, waitErr)
	}
	d.cmd = nil
	return err
}

// Kill kills a daemon. The jobs of a node go on without its daemon.
func (c *Cluster) Kill(name string) error {
	d, err := c.daemon(name)
	if err != nil {
		return err
	}
	return d.kill()
}

// Restart starts a daemon again after Kill. The controller keeps its state. It returns at
// once, but for slurmdbd, which then answers.
func (c *Cluster) Restart(name string) error {
	d, err := c.daemon(name)
	if err != nil {
		return err
	}
	if name == Controller {
		d.args = []string{"-D", "-f", c.path("slurm.conf")} // without -c, which forgets
	}
	if err := d.start(); err != nil || name != Accounting {
		return err
	}
	// A controller that is started before slurmdbd answers, and has saved nothing yet,
	// ends at once.
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return c.await(ctx, name, func() error {
		_, err := c.Output(ctx, "sacctmgr", "-n", "list", "cluster")
		return err
	})
}

// Freeze stops a daemon with SIGSTOP, as a machine that swaps seems to.
func (c *Cluster) Freeze(name string) error { return c.signal(name, unix.SIGSTOP) }

// Thaw lets a frozen daemon go on.
func (c *Cluster) Thaw(name string) error { return c.signal(name, unix.SIGCONT) }

func (c *Cluster) signal(name string, sig unix.Signal) error {
	d, err := c.daemon(name)
	if err != nil {
		return err
	}
	if d.cmd == nil {
		return fmt.Errorf("%s does not run", name)
	}
	return d.cmd.Process.Signal(sig)
}

func (c *Cluster) daemon(name string) (*daemon, error) {
	d, ok := c.daemons[name]
	if !ok {
		return nil, fmt.Errorf("the cluster has no %s", name)
	}
	return d, nil
}

// Await returns once the controller answers.
func (c *Cluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return c.await(ctx, Controller, func() error {
		out, err := c.Output(ctx, "scontrol", "ping")
		if err == nil && !strings.Contains(out, "is UP") {
			err = errors.New(strings.TrimSpace(out))
		}
		return err
	})
}

// Log returns the end of what a daemon printed.
func (c *Cluster) Log(name string) string {
	d, err := c.daemon(name)
	if err != nil {
		return err.Error()
	}
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// startAccounting starts the database and slurmdbd, and adds the cluster and its user.
func (c *Cluster) startAccounting(ctx context.Context) error {
	install := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+c.path("db"),
		"--auth-root-authentication-method=normal", "--skip-test-db")
	install.WaitDelay = time.Second
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	err := c.launch("mariadbd", "--no-defaults", "--user=root", "--datadir="+c.path("db"), "--socket="+c.path("mariadb.sock"),
		"--pid-file="+c.path("mariadb.pid"), "--skip-networking", "--innodb-flush-method=nosync")
	if err != nil {
		return err
	}
	err = c.await(ctx, "mariadbd", func() error {
		_, err := os.Stat(c.path("mariadb.sock"))
		return err
	})
	if err != nil {
		return err
	}
	if err := c.launch(Accounting, "-D"); err != nil {
		return err
	}
	err = c.await(ctx, Accounting, func() error {
		_, err := c.Output(ctx, "sacctmgr", "-n", "-i", "add", "cluster", clusterName)
		if err != nil && strings.Contains(err.Error(), "already exists") {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"add", "account", Account, "Cluster=" + clusterName},
		{"add", "user", "root", "Account=" + Account},
	} {
		if _, err := c.Output(ctx, "sacctmgr", append([]string{"-n", "-i"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}
