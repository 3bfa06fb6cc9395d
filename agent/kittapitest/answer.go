package kittapitest

import (
	"fmt"
	"net/http"
)

// An answer is the response to a call.
type answer struct {
	status int
	kind   string // content type
	body   []byte
	header http.Header

	// serve, if set, writes the response: a stream or a file.
	serve func(w http.ResponseWriter, r *http.Request)
}

const (
	kindJSON = "application/json"
	kindHTML = "text/html; charset=utf-8"
)

// reply answers with JSON.
func reply(status int, v any) answer {
	return answer{status: status, kind: kindJSON, body: append(encode(v), '\n')}
}

// refuse answers with an error object of the API.
func refuse(status int, format string, args ...any) answer {
	return reply(status, newObject("error", fmt.Sprintf(format, args...)))
}

func ok(pairs ...any) answer { return reply(http.StatusOK, newObject(pairs...)) }

// page answers with an HTML page of the server's framework.
func page(status int) answer {
	title := map[int]string{
		http.StatusNotFound:            "Not Found",
		http.StatusMethodNotAllowed:    "Method Not Allowed",
		http.StatusInternalServerError: "Internal Server Error",
		http.StatusPermanentRedirect:   "Redirecting...",
	}[status]
	text := map[int]string{
		http.StatusNotFound:         "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.",
		http.StatusMethodNotAllowed: "The method is not allowed for the requested URL.",
		http.StatusInternalServerError: "The server encountered an internal error and was unable to complete your request. " +
			"Either the server is overloaded or there is an error in the application.",
	}[status]
	if title == "" {
		title = http.StatusText(status)
	}
	return answer{
		status: status,
		kind:   kindHTML,
		body:   fmt.Appendf(nil, "<!doctype html>\n<html lang=en>\n<title>%d %s</title>\n<h1>%s</h1>\n<p>%s</p>\n", status, title, title, text),
	}
}

// plainText answers with plain text, with the framework's content type: HTML.
func plainText(status int, text string) answer {
	return answer{status: status, kind: kindHTML, body: []byte(text)}
}
