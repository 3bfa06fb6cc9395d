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
)

// Artifacts that a KITT server offers for download.
const (
	ArtifactBuildContext = "build-context" // what benchmarks' image is built of, a gzip tar
	ArtifactPackage      = "package"       // the agent itself
)

// Bounds of a download.
const (
	downloadTries = 5           // attempts in a row that bring nothing
	downloadPause = time.Second // after the first of them; each next one is twice as long
	maxDigest     = 64 << 10    // bytes
)

// An Artifact names a file that the server offers, and bounds it.
type Artifact struct {
	Name  string     // one of the Artifact constants
	Query url.Values // such as os and arch of a package; may be nil

	// MaxBytes is the largest file that is taken.
	MaxBytes int64

	// Progress, if set, is told how many bytes are there, and of how many: -1
	// if the server doesn't say.
	Progress func(done, total int64)
}

// A Downloaded says what was downloaded.
type Downloaded struct {
	Bytes  int64
	SHA256 string // in hex digits
	Name   string // as the server calls the file; may be empty
}

// Download writes an artifact into file, which is empty. Where the connection is
// cut or stands still for Config.Timeout it goes on at the next byte, as long as
// the server still offers the same file, and begins anew where it doesn't. It
// gives up after a refusal, or when several attempts in a row brought nothing.
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
		if _, refused := errors.AsType[*reporter.RejectedError](err); refused || errors.Is(err, reporter.ErrServerFailed) || d.hopeless || failures >= downloadTries {
			return Downloaded{}, fmt.Errorf("download of %s: %w", a.Name, err)
		}
		c.log.DebugContext(ctx, "download cut", "artifact", a.Name, "bytes", d.done, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Downloaded{}, context.Cause(ctx)
		}
		pause *= 2
	}
}

// A download is what is there of a file.
type download struct {
	c        *Client
	a        Artifact
	file     *os.File
	sum      hash.Hash
	done     int64
	etag     string // of the version that the bytes are of; empty if it has none
	name     string
	hopeless bool // whether another attempt comes to the same
}

// attempt goes on until the end of the file or of the connection.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The clock that a download stands under is that of its next byte.
	stalled := time.AfterFunc(d.c.cfg.Timeout, func() {
		cancel(fmt.Errorf("nothing came for %s", d.c.cfg.Timeout))
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
			if err := d.take(block[:n], total); err != nil {
				d.hopeless = true
				return err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF) && total >= 0 && d.done < total:
			return fmt.Errorf("cut off at %d of %d bytes", d.done, total)
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return cause(ctx, unreachable(readErr))
		}
	}
}

// request asks for what is missing of the file.
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
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status says enough
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		d.etag = "" // the next attempt begins anew
	}
	return nil, d.c.fault(r, resp, body)
}

// begin readies the file for a response's body and returns how many bytes the
// file has in the end, -1 if that is not said.
func (d *download) begin(resp *http.Response) (total int64, err error) {
	total = resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		from, whole, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || from != d.done {
			d.etag = ""
			return 0, fmt.Errorf("the server answers with another part (%q) than asked for", printable(resp.Header.Get("Content-Range")))
		}
		total = whole
	} else {
		d.done = 0
		d.sum.Reset()
		if err := d.file.Truncate(0); err != nil {
			d.hopeless = true
			return 0, err
		}
		if _, err := d.file.Seek(0, io.SeekStart); err != nil {
			d.hopeless = true
			return 0, err
		}
		// A weak one would not do for parts of a file (RFC 9110, 13.1.5).
		if d.etag = resp.Header.Get("ETag"); strings.HasPrefix(d.etag, "W/") {
			d.etag = ""
		}
		d.name = fileName(resp.Header.Get("Content-Disposition"))
	}
	if total > d.a.MaxBytes {
		d.hopeless = true
		return 0, fmt.Errorf("%d bytes are more than %d", total, d.a.MaxBytes)
	}
	return total, nil
}

// take writes what came.
func (d *download) take(p []byte, total int64) error {
	if d.done+int64(len(p)) > d.a.MaxBytes {
		return fmt.Errorf("it is longer than %d bytes", d.a.MaxBytes)
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

// ErrNoDigest is matched by the error of Digest if the server offers none.
var ErrNoDigest = errors.New("the server has no digest of it")

// Digest returns the SHA-256 that the server gives of an artifact, in hex digits.
// It comes the same way as the file: it guards against damage, not against a
// forger.
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
				return fmt.Errorf("%q is no SHA-256", printable(answer.SHA256))
			}
			return nil
		},
	})
	if isMissing(err) {
		return "", fmt.Errorf("%w: %w", ErrNoDigest, err)
	}
	return digest, err
}

// isMissing reports whether the server has nothing at the address of a call.
func isMissing(err error) bool {
	refused, ok := errors.AsType[*reporter.RejectedError](err)
	return ok && refused.Code == http.StatusNotFound || errors.Is(err, errNoRoute)
}

// contentRange reads a Content-Range of bytes (RFC 9110, 14.4): where a part
// begins, and how large the whole is.
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

// fileName returns the name in a Content-Disposition, without any directory.
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

// cause returns why a request ended: the reason that its context was ended for,
// where that is it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
