package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves a share until it is unmounted.
func run() error {
	s := &share{}
	flag.DurationVar(&s.latency, "latency", 2*time.Millisecond, "time that each request takes")
	flag.Int64Var(&s.limit, "limit", 100_000_000, "bytes a second of each open file; 0 for no limit")
	flag.Parse()
	if flag.NArg() != 2 {
		return fmt.Errorf("usage: nfsfuse [flags] DIRECTORY MOUNTPOINT")
	}
	server, err := s.mount(flag.Arg(0), flag.Arg(1))
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	server.Wait()
	fmt.Println("bytes read:", s.read.Load())
	return nil
}
