// Command fakellama plays llama-server for tests: it serves /health as that does, 200
// once it works and 503 before, and misbehaves as its model says.
//
//	llama-server --port 8081 --host 127.0.0.1 --model fake:print=10MiB,slow=2s
//
// The words of a model:
//
//	print=SIZE   prints so many MiB before it listens, as print=10MiB
//	slow=TIME    answers 503 for so long
//	sick         answers 503 for ever
//	deaf         ignores SIGTERM
//	die=TIME     exits with status 3 so long after it was started
//	child        starts a process that lives on
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const version = "version: 4567 (fake)\nbuilt with Go\n"

func main() {
	var port, host, model string
	for i := 1; i < len(os.Args); i++ {
		value := func() string {
			if i++; i >= len(os.Args) {
				fail("%s needs a value", os.Args[i-1])
			}
			return os.Args[i]
		}
		switch os.Args[i] {
		case "--version":
			fmt.Fprint(os.Stderr, "ggml_cuda_init: found 1 CUDA devices:\n", version)
			return
		case "--sleep":
			time.Sleep(time.Hour)
		case "--port":
			port = value()
		case "--host":
			host = value()
		case "--model":
			model = value()
		case "--flash-attn":
		case "--ctx-size", "--batch-size", "--threads", "--n-gpu-layers":
			value()
		default:
			fail("unknown argument: %s", os.Args[i])
		}
	}
	fmt.Printf("loading model %s\n", model)
	serve(net.JoinHostPort(host, port), words(model))
}

// words returns the words of a model with their values.
func words(model string) map[string]string {
	all := map[string]string{}
	_, text, _ := strings.Cut(model, "fake:")
	for word := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(word, "=")
		all[name] = value
	}
	return all
}

func serve(address string, words map[string]string) {
	began := time.Now()
	if size, ok := strings.CutSuffix(words["print"], "MiB"); ok {
		n, _ := strconv.Atoi(size)
		for i := range n << 10 {
			fmt.Printf("%07d %s\n", i, strings.Repeat("x", 1015))
		}
	}
	_, deaf := words["deaf"]
	if deaf {
		signal.Ignore(syscall.SIGTERM)
	}
	if _, ok := words["child"]; ok {
		if err := exec.Command("/proc/self/exe", "--sleep").Start(); err != nil {
			fail("start a child: %v", err)
		}
	}
	if after := words["die"]; after != "" {
		time.AfterFunc(duration(after), func() { fail("CUDA error: out of memory") })
	}
	_, sick := words["sick"]
	slow := duration(words["slow"])
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail("couldn't bind to server socket: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if !deaf {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sick || time.Since(began) < slow {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, `{"error":{"code":503,"message":"Loading model"}}`)
			return
		}
		_, _ = fmt.Fprintln(w, `{"status":"ok"}`)
	})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Printf("server is listening on http://%s\n", address)
	_ = server.Serve(listener)
	fmt.Println("server stopped")
}

func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if text != "" && err != nil {
		fail("%v", err)
	}
	return d
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(3)
}
