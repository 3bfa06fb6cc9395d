package socketproxy

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Files that the serving process inherits.
const (
	lockFD  = 3 // its lock
	readyFD = 4 // to say that it serves, or why not
)

// readyWord is what the serving process says.
const readyWord = "ready"

// maxReason bounds why it doesn't serve, in bytes.
const maxReason = 4 << 10

// Main is the whole of the program that serves a job's socket:
//
//	kitt-socket-proxy -dir DIRECTORY
//
// It starts itself again as a process of its own, and returns the status to exit with
// once that serves. What goes wrong is printed.
func Main(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("kitt-socket-proxy", flag.ContinueOnError)
	flags.SetOutput(stdout)
	dir := flags.String("dir", "", "`directory` of the proxy's files")
	serving := flags.Bool("serve", false, "serve (used by the program itself)")
	check := flags.Bool("check", false, "print a word and exit")
	err := flags.Parse(args)
	switch {
	case err != nil:
		return 2
	case *check:
		fmt.Fprintln(stdout, CheckWord)
		return 0
	case *dir == "" || flags.NArg() > 0:
		fmt.Fprintln(stdout, "kitt-socket-proxy: a directory is needed")
		return 2
	case *serving:
		err = serve(*dir, os.NewFile(readyFD, "ready"))
	default:
		err = detach(*dir)
	}
	if err != nil {
		fmt.Fprintln(stdout, "kitt-socket-proxy:", err)
		return 1
	}
	return 0
}

// lockUnserved takes the lock. It returns nil without an error if another process has it
// and serves. One that was killed has it for a moment still: the lock is waited for.
func lockUnserved(dir string) (*os.File, error) {
	for end := time.Now().Add(startLimit); ; time.Sleep(lockPause) {
		held, err := lock(dir)
		if err != nil || held != nil || isServed(dir) {
			return held, err
		}
		if time.Now().After(end) {
			return nil, errors.New("a process that does not serve holds its lock")
		}
	}
}

// lockPause is the time between two tries to take the lock.
const lockPause = 10 * time.Millisecond

// answerLimit is how long a process that serves may take to answer that a request makes no
// sense.
const answerLimit = 2 * time.Second

// isServed reports whether somebody serves the socket in dir. A process that was killed
// accepts connections for a moment still, and answers none.
func isServed(dir string) bool {
	sockets, err := os.Open(SocketDir(dir))
	if err != nil {
		return false
	}
	defer sockets.Close()
	// By way of the directory: the socket's own path may be too long for an address.
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", sockets.Fd(), socketFile))
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(answerLimit)) != nil {
		return false
	}
	// It is answered without the engine.
	if _, err := io.WriteString(conn, "?\r\n\r\n"); err != nil {
		return false
	}
	const begins = "HTTP/"
	answer := make([]byte, len(begins))
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == begins
}

// detach starts the process that serves and returns once it does. It does nothing if
// one serves already.
func detach(dir string) error {
	held, err := lockUnserved(dir)
	if err != nil || held == nil {
		return err
	}
	defer held.Close()
	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ready, says, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(exe, append(os.Args[1:len(os.Args):len(os.Args)], "-serve")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.ExtraFiles = []*os.File{held, says}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), says.Close()); err != nil {
		return err
	}
	if err := ready.SetReadDeadline(time.Now().Add(startLimit)); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(ready, maxReason))
	if reason := strings.TrimSpace(string(text)); err != nil || reason != readyWord {
		return errors.Join(fmt.Errorf("it does not serve: %s", reason), err, cmd.Process.Kill())
	}
	return cmd.Process.Release()
}
