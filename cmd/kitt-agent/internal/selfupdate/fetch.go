package selfupdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Deadlines of a download.
const (
	fetchDial  = 10 * time.Second
	fetchStall = 60 * time.Second // without a byte
	fetchHops  = 5                // redirects
)

// Fetch writes the file at an http or https address to out and tells progress
// how much of it is there, of how much: -1 if that is not said. A download that
// began with https stays with it.
func Fetch(ctx context.Context, address string, out io.Writer, progress func(done, total int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(fetchStall, func() { cancel(fmt.Errorf("nothing came for %s", fetchStall)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the address cannot be read") // its text may hold a password
	}
	client := &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: fetchDial}).DialContext,
			TLSHandshakeTimeout: fetchDial,
			DisableKeepAlives:   true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			switch {
			case len(via) >= fetchHops:
				return errors.New("too many redirects")
			case req.URL.Scheme == "https" && next.URL.Scheme != "https":
				return errors.New("it leads away from https")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return fetchError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers with %s", resp.Status)
	}
	var done int64
	block := make([]byte, 64<<10)
	for {
		n, readErr := resp.Body.Read(block)
		if n > 0 {
			stalled.Reset(fetchStall)
			if done += int64(n); done > MaxPackage {
				return fmt.Errorf("it is larger than %d MiB", MaxPackage>>20)
			}
			if _, err := out.Write(block[:n]); err != nil {
				return err
			}
			progress(done, resp.ContentLength)
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return fetchError(ctx, readErr)
		}
	}
}

// fetchError returns why a download ended, without its address, which may hold a
// password.
func fetchError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
