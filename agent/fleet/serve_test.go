package fleet_test

import (
	"fmt"
	"io"
	"os"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// serverEnv makes this test binary a server, so that a benchmark can measure a
// fleet alone in its process.
const serverEnv = "KITT_TEST_SERVER"

// serve prints the server's address and serves until standard input ends.
func serve() int {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	fmt.Println(server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}
