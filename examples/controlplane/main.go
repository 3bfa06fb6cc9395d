// Command controlplane is a stand-in for a KITT server: the control plane that
// the tests use, with a page for people. Agents register with it as with the
// real one; without any, its test agents play benchmarks on machines that are
// made up in a form.
//
//	go run ./examples/controlplane --listen 127.0.0.1:8080
//
// It keeps everything in memory and asks nobody for a token, so it listens on
// this machine alone unless it is told otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	speed := flag.Float64("speed", 1, "factor on the delays of simulated benchmarks; 0 for none")
	seed := flag.Uint64("seed", 0, "seed of the figures of simulated benchmarks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := kittapitest.Config{TestAgents: simulated.Config{Speed: *speed, Seed: *seed}}
	if err := run(ctx, *listen, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. It prints the URL once it can be asked.
func run(ctx context.Context, listen string, cfg kittapitest.Config, stdout io.Writer) error {
	if _, err := simulated.New(cfg.TestAgents); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	plane := kittapitest.New(cfg)
	site := &http.Server{Handler: handler(plane), ReadHeaderTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- site.Serve(l) }()
	fmt.Fprintf(stdout, "KITT control plane at http://%s\n", l.Addr())

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	err = errors.Join(err, plane.Close(), site.Close()) // the plane first, whose event streams never end by themselves
	if ctx.Err() != nil {
		<-served
	}
	return err
}
