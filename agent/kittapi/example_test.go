package kittapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/kirizan/kitt-agent/agent/kittapi"
)

// A client speaks to one server.
func ExampleNew() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":"ok"}`)
	}))
	defer server.Close()

	client, err := kittapi.New(kittapi.Config{URL: server.URL, Token: "secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Health(context.Background()))
	// Output: <nil>
}
