package kittapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

// Artifacts that a KITT server offers for download.
const (
	ArtifactBuildContext = "build-context" // the context of the benchmarks' image, a gzip tar
	ArtifactPackage      = "package"       // the agent itself
)

// Limits of a download.
const (
	downloadTries = 5           // attempts in a row without any data
	downloadPause = time.Second // after the first of them; doubled after each further one
	maxDigest     = 64 << 10    // bytes
)

// An Artifact is a file that the server offers.
type Artifact struct {
	Name  string     // one of the Artifact constants
	Query url.Values // such as os and arch of a package; may be nil

	// MaxBytes is the size of the largest accepted file. It is required.
	MaxBytes int64

	// Progress, if set, is called with the number of bytes received so far and
	// the size of the file, which is -1 if the server doesn't report it.
	Progress func(done, total int64)
}

// A Downloaded describes a downloaded file.
type Downloaded struct {
	Bytes  int64
	SHA256 string // hex digits
	Name   string // the server's name of the file; may be empty
}

// Download writes an artifact into file, which must be empty. If the connection
// fails, or no data arrives for Config.Timeout, Download requests the rest of the
// file, or all of it if the server's file has changed. It stops if the server
// rejects the request or if several attempts in a row bring no data. The error then
// is that of the last attempt; it matches the cause of ctx if ctx is done.
func (c *Client) Download(ctx context.Context, a Artifact, file *os.File) (Downloaded, error) {
	d := &download{c: c, a: a, file: file, sum: sha256.New()}
	failures := 0
	for pause := downloadPause; ; {
		had := d.done
		err := d.attempt(ctx)
		if err == nil {
			return Downloaded{Bytes: d.done, SHA256: hex.EncodeToString(d.sum.Sum(nil)), Name: d.name}, nil
		}
		if ctx.Err() != nil {
			return Downloaded{}, context.Cause(ctx)
		}
		if failures++; d.done > had {
			failures, pause = 1, downloadPause
		}
		if isMissing(err) {
			return Downloaded{}, fmt.Errorf("the server offers no %s: %w", a.Name, err)
		}
		if _, rejected := errors.AsType[*reporter.RejectedError](err); rejected || errors.Is(err, reporter.ErrServerFailed) || d.permanent || failures >= downloadTries {
			return Downloaded{}, fmt.Errorf("download %s: %w", a.Name, err)
		}
		c.log.DebugContext(ctx, "download interrupted", "artifact", a.Name, "bytes", d.done, "err", err)
		if err := base.Wait(ctx, pause); err != nil {
			return Downloaded{}, err
		}
		pause *= 2
	}
}

// A download is the state of an unfinished download.
type download struct {
	c         *Client
	a         Artifact
	file      *os.File
	sum       hash.Hash // of the bytes received so far
	done      int64     // bytes received so far
	etag      string    // of the server's file; empty if it has none
	name      string
	permanent bool // whether a retry would fail too
}

// attempt requests the rest of the file and writes it.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The time limit is for the next data, not for the whole download.
	stalled := time.AfterFunc(d.c.cfg.Timeout, func() {
		cancel(fmt.Errorf("no data for %s", d.c.cfg.Timeout))
	})
	defer stalled.Stop()
	resp, err := d.request(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	defer resp.Body.Close()
	total, err := d.begin(resp)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for {
		n, readErr := resp.Body.Read(block)
		if n > 0 {
			stalled.Reset(d.c.cfg.Timeout)
			if err := d.write(block[:n], total); err != nil {
				d.permanent = true
				return err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF) && total >= 0 && d.done < total:
			return fmt.Errorf("the connection ended after %d of %d bytes", d.done, total)
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return cause(ctx, unreachable(readErr))
		}
	}
}

// request requests the missing part of the file.
func (d *download) request(ctx context.Context) (*http.Response, error) {
	r := request{method: http.MethodGet, path: "/agent/" + d.a.Name, query: d.a.Query, key: noKey}
	req, err := d.c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "*/*")
	if d.done > 0 && d.etag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
		req.Header.Set("If-Range", d.etag)
	}
	resp, err := d.c.http.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, unreachable(err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is enough
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		d.etag = "" // the next attempt requests the whole file
	}
	return nil, d.c.fault(r, resp, body)
}

// begin prepares the file for a response's body and returns the size of the whole
// file, -1 if the server doesn't report it.
func (d *download) begin(resp *http.Response) (total int64, err error) {
	total = resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		from, whole, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || from != d.done {
			d.etag = ""
			return 0, fmt.Errorf("the server sent another part (%q) than requested", printable(resp.Header.Get("Content-Range")))
		}
		total = whole
	} else {
		d.done = 0
		d.sum.Reset()
		if err := d.file.Truncate(0); err != nil {
			d.permanent = true
			return 0, err
		}
		if _, err := d.file.Seek(0, io.SeekStart); err != nil {
			d.permanent = true
			return 0, err
		}
		// A weak tag cannot be used for parts of a file (RFC 9110, 13.1.5).
		if d.etag = resp.Header.Get("ETag"); strings.HasPrefix(d.etag, "W/") {
			d.etag = ""
		}
		d.name = fileName(resp.Header.Get("Content-Disposition"))
	}
	if total > d.a.MaxBytes {
		d.permanent = true
		return 0, fmt.Errorf("the file has %d bytes, more than the limit of %d", total, d.a.MaxBytes)
	}
	return total, nil
}

// write appends p to the file.
func (d *download) write(p []byte, total int64) error {
	if d.done+int64(len(p)) > d.a.MaxBytes {
		return fmt.Errorf("the file is larger than the limit of %d bytes", d.a.MaxBytes)
	}
	n, err := d.file.Write(p)
	d.sum.Write(p[:n])
	d.done += int64(n)
	if err != nil {
		return err
	}
	if d.a.Progress != nil {
		d.a.Progress(d.done, total)
	}
	return nil
}

// ErrNoDigest is matched by the error of [Client.Digest] if the server has none.
var ErrNoDigest = errors.New("the server has no digest of it")

// Digest returns the server's SHA-256 of an artifact, in hex digits. It comes over
// the same connection as the file: it protects against corruption, not against
// forgery. The error matches [ErrNoDigest] if the server has no digest.
func (c *Client) Digest(ctx context.Context, a Artifact) (string, error) {
	var digest string
	err := c.do(ctx, request{
		method: http.MethodGet, path: "/agent/" + a.Name + "/sha256", query: a.Query, key: noKey, limit: maxDigest,
		answer: func(body []byte) error {
			var answer struct {
				SHA256 string `json:"sha256"`
			}
			if err := json.Unmarshal(body, &answer); err != nil {
				return err
			}
			digest = strings.ToLower(answer.SHA256)
			if sum, err := hex.DecodeString(digest); err != nil || len(sum) != sha256.Size {
				return fmt.Errorf("%q is not a SHA-256", printable(answer.SHA256))
			}
			return nil
		},
	})
	if isMissing(err) {
		return "", fmt.Errorf("%w: %w", ErrNoDigest, err)
	}
	return digest, err
}

// isMissing reports whether err means that the server has nothing at the path.
func isMissing(err error) bool {
	rejected, ok := errors.AsType[*reporter.RejectedError](err)
	return ok && rejected.Code == http.StatusNotFound || errors.Is(err, errNoRoute)
}

// contentRange parses a Content-Range of bytes (RFC 9110, 14.4): the start of the
// part and the size of the whole file.
func contentRange(header string) (from, whole int64, ok bool) {
	span, size, found := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, last, dash := strings.Cut(span, "-")
	if !strings.HasPrefix(header, "bytes ") || !found || !dash {
		return 0, 0, false
	}
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	whole, err3 := strconv.ParseInt(size, 10, 64)
	ok = errors.Join(err1, err2, err3) == nil && 0 <= from && from <= to && to < whole
	return from, whole, ok
}

// fileName returns the name in a Content-Disposition, without directories.
func fileName(header string) string {
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	if name := path.Base("/" + params["filename"]); name != "/" {
		return printable(name)
	}
	return ""
}

// cause returns the cause of ctx if it is done, and err otherwise.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
