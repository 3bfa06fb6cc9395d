package systemd_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/systemd"
)

// A service tells its systemd, here a socket, that it is ready.
func ExampleNotifier_Run() {
	dir, err := os.MkdirTemp("", "systemd")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.Close()
	os.Setenv("NOTIFY_SOCKET", socket.LocalAddr().String()) // as systemd does
	defer os.Unsetenv("NOTIFY_SOCKET")

	ready := make(chan struct{})
	close(ready)
	n := &systemd.Notifier{
		Ready:      ready,
		Alive:      func() error { return nil },
		Status:     func() string { return "idle; registered" },
		StopWithin: time.Minute,
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan struct{})
	go func() {
		n.Run(ctx, ctx)
		close(ended)
	}()
	message := make([]byte, 1024)
	for range 2 {
		size, err := socket.Read(message)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(strings.ReplaceAll(string(message[:size]), "\n", " "))
	}
	end()
	<-ended
	// Output:
	// STATUS=starting
	// READY=1 STATUS=idle; registered
}
