package socketproxy

import (
	"io"
	"net/http"
)

// relayed are the headers of the engine's answers that a client gets.
var relayed = []string{
	"Content-Type", "Content-Length", "Api-Version", "Builder-Version", "Docker-Experimental", "Libpod-Api-Version", "Ostype", "Server", "Swarm",
}

// relayBuffer is how much of an answer is passed on at once, in bytes.
const relayBuffer = 16 << 10

// relay passes an answer of the engine on as it comes, and closes it.
func relay(w http.ResponseWriter, answer *http.Response) {
	defer answer.Body.Close()
	for _, name := range relayed {
		if values := answer.Header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(answer.StatusCode)
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return // the client has gone
	}
	buffer := make([]byte, relayBuffer)
	for {
		n, err := answer.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil || flush() != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the client sees that it was cut off
		}
	}
}
