// Package web is what the pages of this module have in common: that of the agent
// (agent/webpage) and that of the control plane for tests (examples/controlplane). It
// has their frame and look, the result of a benchmark as a page shows it, and two small
// scripts. live.js renews the parts of a page that change, log.js shows a log of any
// length and content. There is no build step, and nothing comes from elsewhere.
//
// A site has templates of its own: one for each page, which define "title" and
// "content", and one named layout.html, which defines what is the same on all of them:
// "brand", "nav", "head" and "foot".
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed parts
var parts embed.FS

//go:embed static
var static embed.FS

// Secure sets the headers that keep a page to itself: it runs no inline script, asks no
// other host for anything, and is shown in no other page's frame.
func Secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// Pages are the parsed pages of a site, by name.
type Pages map[string]*template.Template

// ParsePages reads pages/NAME.html of files together with pages/layout.html and the
// parts that all sites share. It panics if a template is wrong: they are part of the
// program.
func ParsePages(files fs.FS, funcs template.FuncMap, names ...string) Pages {
	pages := Pages{}
	common := template.FuncMap{"last": LastPart, "metric": MetricText, "stamp": stamp, "unix": time.Time.UnixMilli}
	for _, name := range names {
		t := template.New("").Funcs(common).Funcs(funcs)
		template.Must(t.ParseFS(parts, "parts/*.html"))
		pages[name] = template.Must(t.ParseFS(files, "pages/layout.html", "pages/"+name+".html"))
	}
	return pages
}

// Show writes the page of that name.
func (p Pages) Show(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := p[name].ExecuteTemplate(&page, "frame", data); err != nil {
		http.Error(w, "The page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // the browser may be gone
}

// A file is one file that pages load.
type file struct {
	tag  string // ETag
	text []byte
}

// Files serves the static files that all sites share, and those of more, by their
// names: a request's path is the file's. A browser asks for each again, and gets it only
// if it has changed.
func Files(more ...fs.FS) http.Handler {
	shared, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	files := map[string]file{}
	for _, dir := range append([]fs.FS{shared}, more...) {
		names, err := fs.Glob(dir, "*")
		if err != nil {
			panic(err) // only a bad pattern
		}
		for _, name := range names {
			text, err := fs.ReadFile(dir, name)
			if err != nil {
				panic(err) // it is embedded
			}
			sum := sha256.Sum256(text)
			files[name] = file{`"` + hex.EncodeToString(sum[:8]) + `"`, text}
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", f.tag)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(f.text))
	})
}

// LastPart returns what stands behind the last slash of a path.
func LastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// stamp writes a time for a <time> element, which a script shows in the reader's zone.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// text returns v if it is a text.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// MetricText writes a figure as people read it.
func MetricText(v any) string {
	switch v := v.(type) {
	case float64:
		return number(v)
	case nil:
		return "–"
	}
	return fmt.Sprint(v)
}
