package socketproxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
)

// A proxy is a handler, so it can be served in any process.
func ExampleNew() {
	proxy, err := socketproxy.New(socketproxy.Policy{
		Job: "job-1", Engine: "unix:///var/run/docker.sock", Images: socketproxy.DefaultImages(),
		ShmMax: 8 << 30, Pids: socketproxy.DefaultPids, Network: socketproxy.NetworkHost,
	}, func(text string) { fmt.Println(text) })
	if err != nil {
		panic(err)
	}
	defer proxy.Close()
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/images/alpine/json", nil))
	fmt.Println(answer.Code)
	// Output:
	// kitt-agent's policy: the image alpine:latest is not one of policy.engine_images in agent.yaml: vllm/vllm-openai, nvcr.io/nvidia/vllm, ghcr.io/ggml-org/llama.cpp, kitt/llama-cpp, kitt/vllm, ollama/ollama, ghcr.io/turboderp/exllamav2
	// 403
}
