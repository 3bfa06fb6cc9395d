// Package bugreport gathers what a bug report needs: texts in sections, without secrets,
// as one archive or one text.
package bugreport

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// maxSection bounds the text of a section, in bytes. Of a longer one the end is kept.
const maxSection = 2 << 20

// A Section is one text of a report.
type Section struct {
	Name  string        // of a file: letters, digits, dots and hyphens
	Limit time.Duration // what Write may take; 0 for 30 s

	// Write writes the text. What it has written when it returns an error, or is out
	// of time, is kept, and the report says why there is no more.
	Write func(ctx context.Context, w io.Writer) error
}

// A Text is a section that was written.
type Text struct {
	Name string
	Text string // without secrets; printable
}

// Gather writes all sections at the same time, and returns them in order. secrets are
// texts that are known to be secret; what has the form of a key, a token or a password in
// an address is replaced too.
func Gather(ctx context.Context, sections []Section, secrets []string) []Text {
	redactor := logstream.NewRedactor(secrets)
	texts := make([]Text, len(sections))
	var writing sync.WaitGroup
	for i, s := range sections {
		writing.Go(func() { texts[i] = Text{s.Name, redact(redactor, write(ctx, s))} })
	}
	writing.Wait()
	return texts
}

// write returns what a section writes within its limit. One that does not heed its
// context is left behind.
func write(ctx context.Context, s Section) string {
	limit := s.Limit
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var kept tail
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panicked: %v", p)
			}
		}()
		done <- s.Write(ctx, &kept)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("not done within %s", limit)
	}
	text := kept.String()
	if err != nil {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += "(incomplete: " + err.Error() + ")\n"
	}
	return text
}

// secretForms match what is a secret wherever it stands: keys and tokens that services
// issue, JSON web tokens, credentials in headers and addresses, and private keys.
var secretForms = []struct {
	form *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\b(hf_|sk-|gh[opsu]_|github_pat_|glpat-|xox[abp]-|nvapi-|whsec_|AKIA|AIza|eyJ)[A-Za-z0-9_./+=-]{12,}`), "[redacted]"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)( +)[A-Za-z0-9._~+/=-]{8,}`), "$1$2[redacted]"},
	{regexp.MustCompile(`(\w://)[^/@\s"]+@`), "$1[redacted]@"},
	{regexp.MustCompile(`(?i)\b([a-z0-9_]*(?:token|secret|passw(?:or)?d|api_?key|credential)[a-z0-9_]*"?\s*[=:]\s*"?)[^\s",;}]+`), "$1[redacted]"},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), "[redacted]"},
}

// redact returns text without secrets, and with the characters that control a terminal
// escaped.
func redact(r logstream.Redactor, text string) string {
	text = r.Text(text)
	for _, s := range secretForms {
		text = s.form.ReplaceAllString(text, s.by)
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		whole := strings.HasSuffix(line, "\n")
		b.WriteString(base.Escape(strings.TrimSuffix(line, "\n")))
		if whole {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// A tail keeps the last maxSection bytes that are written to it.
type tail struct {
	mu  sync.Mutex
	all []byte // guarded by mu
	cut bool   // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, p...)
	if extra := len(t.all) - maxSection; extra > maxSection { // seldom, since it copies
		t.all, t.cut = append([]byte(nil), t.all[extra:]...), true
	}
	return len(p), nil
}

// String returns whole lines of what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, cut := string(t.all), t.cut
	if extra := len(text) - maxSection; extra > 0 {
		text, cut = text[extra:], true
	}
	if cut {
		_, text, _ = strings.Cut(text, "\n")
		text = "(the beginning is left out)\n" + text
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// WriteArchive writes the sections as files below dir of a tar archive, compressed with
// gzip. Files are as of at.
func WriteArchive(w io.Writer, dir string, texts []Text, at time.Time) error {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, t := range texts {
		header := &tar.Header{Name: dir + "/" + t.Name, Mode: 0o600, Size: int64(len(t.Text)), ModTime: at, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, t.Text); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zip.Close()
}

// WriteText writes the sections one after the other.
func WriteText(w io.Writer, texts []Text) error {
	for i, t := range texts {
		blank := ""
		if i > 0 {
			blank = "\n"
		}
		text := t.Text
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		if _, err := fmt.Fprintf(w, "%s===== %s =====\n%s", blank, t.Name, text); err != nil {
			return err
		}
	}
	return nil
}
