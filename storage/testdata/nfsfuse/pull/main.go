// Command pull copies one model from a share, for measurements beside other
// programs: it prints nothing but its peak memory, and like them does not wait
// for the disk.
package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/kirizan/kitt-agent/storage"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: pull SHARE DIRECTORY MODEL")
	}
	l, err := storage.New(storage.Config{Settings: storage.Settings{ShareMount: os.Args[1], Dir: os.Args[2]}})
	if err != nil {
		return err
	}
	if _, err := l.Acquire(context.Background(), storage.Request{Model: os.Args[3], Holder: "pull", Log: os.Stderr}); err != nil {
		return err
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	fmt.Printf("peak memory: %d MiB\n", used.Maxrss/1024)
	return nil
}
