package kittapitest

import (
	"fmt"
	"net/http"
)

// An answer is what a call is answered with.
type answer struct {
	status int
	kind   string // content type
	body   []byte
	header http.Header

	// serve, if set, writes the answer itself: a stream, or a file.
	serve func(w http.ResponseWriter, r *http.Request)
}

const (
	kindJSON = "application/json"
	kindHTML = "text/html; charset=utf-8"
)

// reply answers with JSON.
func reply(status int, v any) answer {
	return answer{status: status, kind: kindJSON, body: append(answerStyle.write(nil, v), '\n')}
}

// refuse answers with the API's error object.
func refuse(status int, format string, args ...any) answer {
	return reply(status, newObject("error", fmt.Sprintf(format, args...)))
}

func ok(pairs ...any) answer { return reply(http.StatusOK, newObject(pairs...)) }

// page answers as the server's framework does where the API has no say.
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

// plainText answers with a bare text, which the framework calls HTML.
func plainText(status int, text string) answer {
	return answer{status: status, kind: kindHTML, body: []byte(text)}
}
