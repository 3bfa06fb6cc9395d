package certs_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/agent/certs"
)

// An agent without an authority writes a request, which somebody who has the
// authority signs.
func ExampleRequest() {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	request := certs.RequestFor(filepath.Join(dir, "agent.pem"))
	subject := certs.Subject{Name: "gpu-1", DNS: []string{"gpu-1.example"}, IPs: []net.IP{net.IPv4(10, 0, 0, 7)}}
	if err := request.Write(subject, false); err != nil {
		fmt.Println(err)
		return
	}
	text, err := certs.ReadFile(request.File)
	if err != nil {
		fmt.Println(err)
		return
	}
	asked, err := certs.ParseRequest(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(filepath.Base(request.File), asked.Subject, asked.DNSNames, asked.IPAddresses)
	// Output:
	// agent-request.pem CN=agent-gpu-1,O=KITT [gpu-1.example] [10.0.0.7]
}
