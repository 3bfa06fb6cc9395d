package kittapitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// file returns the file that the path names, and what to say without one.
func (c *call) file() (File, answer, bool) {
	if strings.Contains(c.r.URL.Path, "build-context") {
		return c.s.cfg.BuildContext, answer{}, true
	}
	f := c.s.cfg.Package
	if f.Data == nil {
		return File{}, refuse(http.StatusInternalServerError, "Failed to build agent package"), false
	}
	return f, answer{}, true
}

func digest(f File) string {
	sum := sha256.Sum256(f.Data)
	return hex.EncodeToString(sum[:])
}

func (c *call) digest() answer {
	f, missing, have := c.file()
	if !have {
		return missing
	}
	return ok("sha256", digest(f), "filename", f.Name)
}

// download answers with a file; ranges and conditions work.
func (c *call) download() answer {
	f, missing, have := c.file()
	if !have {
		return missing
	}
	return answer{serve: func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/gzip")
		h.Set("Content-Disposition", "attachment; filename="+f.Name)
		h.Set("ETag", strconv.Quote(digest(f)[:32]))
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(f.Data))
	}}
}

// installScript fails as version 1.7.0 does: with the named agent's token
// replaced.
func (c *call) installScript() answer {
	query := c.r.URL.Query()
	port := query.Get("port")
	if !query.Has("port") {
		port = "8090"
	}
	n, valid := toInt(port)
	if !valid {
		return plainText(http.StatusBadRequest, "Port must be a number")
	}
	if !n.IsInt64() || n.Int64() < 1 || n.Int64() > 65535 {
		return plainText(http.StatusBadRequest, "Invalid port number")
	}
	name := query.Get("name")
	if name == "" {
		name = "pending-localhost-" + n.String()
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.provisionLocked(name, num(n.String()))
	return page(http.StatusInternalServerError)
}

// smallBuildContext returns a build context that holds a Dockerfile and nothing
// else.
func smallBuildContext() File {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	files := tar.NewWriter(zip)
	text := []byte("FROM scratch\n")
	header := &tar.Header{Name: "kitt-build-context/docker/web/Dockerfile", Mode: 0o644, Size: int64(len(text))}
	// Nothing fails that is written to memory.
	_ = files.WriteHeader(header)
	_, _ = files.Write(text)
	_ = files.Close()
	_ = zip.Close()
	return File{Name: "kitt-build-context.tar.gz", Data: b.Bytes()}
}
