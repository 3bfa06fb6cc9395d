package socketproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// A refusal is an answer that the proxy gives in place of the engine. The docker
// command prints its text.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// refuse returns a refusal of what the policy doesn't allow.
func refuse(format string, args ...any) error {
	return &refusal{http.StatusForbidden, "kitt-agent's policy: " + fmt.Sprintf(format, args...)}
}

// invalid returns a refusal of a request that makes no sense.
func invalid(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// noContainer is what an engine says that doesn't know a container.
func noContainer(ref string) error {
	return &refusal{http.StatusNotFound, "No such container: " + ref}
}

// noExec is what an engine says that doesn't know an exec.
func noExec(id string) error {
	return &refusal{http.StatusNotFound, "No such exec instance: " + id}
}

// answer writes err in the form of the engine's errors.
func answer(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if e, ok := errors.AsType[*refusal](err); ok {
		status = e.status
	}
	text, _ := json.Marshal(map[string]string{"message": err.Error()}) // of a string, which always works
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may have gone
}
