package kittapitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// file returns the file that the path names, and the answer if there is none.
func (c *call) file() (name string, data []byte, missing answer) {
	if strings.Contains(c.r.URL.Path, "build-context") {
		return "kitt-build-context.tar.gz", c.s.cfg.BuildContext, answer{}
	}
	return "kitt_agent-" + c.s.cfg.Version + ".tar.gz", c.s.cfg.Package,
		refuse(http.StatusInternalServerError, "Failed to build agent package")
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (c *call) digest() answer {
	name, data, missing := c.file()
	if data == nil {
		return missing
	}
	return ok("sha256", digest(data), "filename", name)
}

// download answers with a file. It supports ranges and conditional requests.
func (c *call) download() answer {
	name, data, missing := c.file()
	if data == nil {
		return missing
	}
	return answer{serve: func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/gzip")
		h.Set("Content-Disposition", "attachment; filename="+name)
		h.Set("ETag", strconv.Quote(digest(data)[:32]))
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(data))
	}}
}

// installScript fails like version 1.7.0, after it has replaced the token of the
// named agent.
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
	if n < 1 || n > 65535 {
		return plainText(http.StatusBadRequest, "Invalid port number")
	}
	name := query.Get("name")
	if name == "" {
		name = fmt.Sprintf("pending-localhost-%d", n)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.provisionLocked(name, integer(n))
	return page(http.StatusInternalServerError)
}

// smallBuildContext returns a build context that has only a Dockerfile.
func smallBuildContext() []byte {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	files := tar.NewWriter(zip)
	text := []byte("FROM scratch\n")
	header := &tar.Header{Name: "kitt-build-context/docker/web/Dockerfile", Mode: 0o644, Size: int64(len(text))}
	// Writing to memory does not fail.
	_ = files.WriteHeader(header)
	_, _ = files.Write(text)
	_ = files.Close()
	_ = zip.Close()
	return b.Bytes()
}
