//go:build !kitt_supervise

package program

// Nothing is packed: only released programs hold the tools.
var packedSupervisor, packedSocketProxy []byte
