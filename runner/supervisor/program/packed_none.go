//go:build !kitt_supervise

package program

// packed is empty: only released programs hold the supervisor.
var packed []byte
