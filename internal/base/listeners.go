package base

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// A Listener is a TCP socket that waits for connections.
type Listener struct {
	Port  int    // 0 to 65535
	UID   int    // of the socket's owner
	Inode string // N in socket:[N], the link of each file descriptor that is open on it
}

// maxSockets is the most that is read of a table of sockets, in bytes; a line has 150.
const maxSockets = 64 << 20

// Listeners returns the TCP listeners of this program's network, from proc/net/tcp and
// proc/net/tcp6 (proc_pid_net(5)) of root, the machine's file tree. A machine without
// IPv6 has only the first. The error says why neither could be read.
func Listeners(root fs.FS) ([]Listener, error) {
	var found []Listener
	var errs []error
	tables := []string{"proc/net/tcp", "proc/net/tcp6"}
	for _, name := range tables {
		listeners, err := readListeners(root, name)
		if err != nil {
			errs = append(errs, err)
		}
		found = append(found, listeners...)
	}
	if len(errs) == len(tables) {
		return nil, errors.Join(errs...)
	}
	return found, nil
}

func readListeners(root fs.FS, name string) ([]Listener, error) {
	table, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer table.Close()
	return parseListeners(io.LimitReader(table, maxSockets))
}

// tcpListen is the state TCP_LISTEN in a table of sockets (net/tcp_states.h).
const tcpListen = "0A"

// parseListeners parses a table of sockets. Lines of another form are passed over.
func parseListeners(table io.Reader) (found []Listener, err error) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// sl local_address rem_address st queues timer retransmits uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != tcpListen {
			continue
		}
		_, hexPort, _ := strings.Cut(fields[1], ":")
		port, err := hex.DecodeString(hexPort)
		if err != nil || len(port) != 2 {
			continue
		}
		uid, err := strconv.Atoi(fields[7])
		if err != nil || uid < 0 {
			continue
		}
		found = append(found, Listener{Port: int(port[0])<<8 | int(port[1]), UID: uid, Inode: fields[9]})
	}
	return found, lines.Err()
}
