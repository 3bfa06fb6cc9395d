//go:build kitt_supervise

package program

import _ "embed"

// The programs for this architecture, compressed by gzip. scripts/dist makes them
// before it builds with the tag.
var (
	//go:embed kitt-supervise.gz
	packedSupervisor []byte

	//go:embed kitt-socket-proxy.gz
	packedSocketProxy []byte
)
