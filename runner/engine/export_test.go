package engine

// Serving returns the process that serves an engine on this machine, and where it
// listens.
func Serving(s Spec) (pid, port int, running bool) {
	port = s.Port
	pid, running = listening().find(s, &port)
	return pid, port, running
}
