package logstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

const (
	// minSecret is the length from which a secret is replaced, in bytes.
	minSecret = 6

	// minHint is from how many bytes on the beginning of a secret is held back at
	// the end of an open line. Fewer tell nothing.
	minHint = 4

	// redacted stands in a line in place of a secret.
	redacted = "[redacted]"
)

// A Redactor replaces secrets with [redacted]. Its zero value knows none.
type Redactor struct {
	needles [][]byte
}

// NewRedactor returns a Redactor for secrets. It replaces each line of a secret by
// itself, also in the forms in which secrets go into URLs, JSON and HTTP's basic
// authentication. Lines of less than 6 bytes are not replaced: they may be anything.
func NewRedactor(secrets []string) Redactor {
	var r Redactor
	add := func(needle string) {
		if len(needle) >= minSecret && !slices.ContainsFunc(r.needles, func(n []byte) bool { return string(n) == needle }) {
			r.needles = append(r.needles, []byte(needle))
		}
	}
	for _, secret := range secrets {
		for _, line := range strings.FieldsFunc(secret, func(c rune) bool { return c == '\n' || c == '\r' }) {
			if len(line) < minSecret {
				continue
			}
			add(line)
			add(url.QueryEscape(line))
			add(url.PathEscape(line))
			if quoted, err := json.Marshal(line); err == nil {
				add(string(quoted[1 : len(quoted)-1]))
			}
			for before := range 3 {
				add(inBase64(line, before))
			}
		}
	}
	return r
}

// inBase64 returns the part of a base64 text that is the same whatever stands
// around secret in what was encoded, where before bytes of a group of three come
// before it. The two alphabets differ in characters that few secrets yield; the
// usual one is taken.
func inBase64(secret string, before int) string {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), secret...))
	first := (before*8 + 5) / 6 // characters that hold bits of what comes before
	last := (before + len(secret)) * 8 / 6
	return text[first:last]
}

// replace returns text without secrets. It returns text itself if it has none,
// and never changes it.
func (r Redactor) replace(text []byte) []byte {
	var hits []span
	for _, needle := range r.needles {
		for at := 0; ; {
			i := bytes.Index(text[at:], needle)
			if i < 0 {
				break
			}
			hits = append(hits, span{at + i, at + i + len(needle)})
			at += i + 1
		}
	}
	if hits == nil {
		return text
	}
	slices.SortFunc(hits, func(a, b span) int { return a.from - b.from })
	out := make([]byte, 0, len(text))
	at := 0
	for i := 0; i < len(hits); {
		hit := hits[i]
		for i++; i < len(hits) && hits[i].from < hit.to; i++ {
			hit.to = max(hit.to, hits[i].to)
		}
		out = append(append(out, text[at:hit.from]...), redacted...)
		at = hit.to
	}
	return append(out, text[at:]...)
}

// span is a part of a text.
type span struct{ from, to int }

// partial returns how many bytes at the end of text may be the beginning of a
// secret whose rest is still to come; 0 if they are fewer than least.
func (r Redactor) partial(text []byte, least int) int {
	most := 0
	for _, needle := range r.needles {
		for n := min(len(needle)-1, len(text)); n >= least && n > most; n-- {
			if bytes.HasSuffix(text, needle[:n]) {
				most = n
				break
			}
		}
	}
	return most
}
