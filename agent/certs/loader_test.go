package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
)

// knock connects to a server that is served with conf, and returns the
// certificate that it shows, or what it says to ours.
func knock(t *testing.T, conf *tls.Config, ours *Pair) (*x509.Certificate, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: conf.Clone(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ServeTLS(listener, "", "") })
	defer func() { _ = s.Close(); wg.Wait() }()
	c := &tls.Config{InsecureSkipVerify: true}
	if ours != nil {
		c.Certificates = []tls.Certificate{*ours.TLS()}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return resp.TLS.PeerCertificates[0], resp.Body.Close()
}

func TestLoader(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	newCA, _ := newAuthority(t, nil)
	first, second := ca.newPair(t, "first", time.Now()), ca.newPair(t, "second", time.Now())
	caller, stranger := ca.newPair(t, "caller", time.Now()), newCA.newPair(t, "stranger", time.Now())
	files := ca.write(t, first)
	var logged basetest.Buffer
	l, err := NewLoader(files, slog.New(slog.NewTextHandler(&logged, nil)))
	require.NoError(t, err)
	open, closed := l.ServerConfig(false), l.ServerConfig(true)

	shown, err := knock(t, open, nil)
	require.NoError(t, err)
	require.True(t, shown.Equal(first.Leaf()))
	_, err = knock(t, closed, nil)
	require.Error(t, err)
	_, err = knock(t, closed, stranger)
	require.Error(t, err)
	_, err = knock(t, closed, caller)
	require.NoError(t, err)

	// Half a replacement is not seen.
	text, err := encodeKey(second.Key)
	require.NoError(t, err)
	require.NoError(t, WriteFile(files.Key, text))
	for range 3 {
		shown, err = knock(t, closed, caller)
		require.NoError(t, err)
		require.True(t, shown.Equal(first.Leaf()))
	}
	require.Equal(t, 1, strings.Count(logged.String(), "cannot be used"), logged.String())
	require.NoError(t, WriteFile(files.Cert, EncodeCertificates(second.Leaf())))
	shown, err = knock(t, closed, caller)
	require.NoError(t, err)
	require.True(t, shown.Equal(second.Leaf()))

	// Whose certificates count changes as well, but the holder of the agent's
	// own key is always let in.
	require.NoError(t, WriteFile(files.CA, EncodeCertificates(newCA.Cert)))
	_, err = knock(t, closed, caller)
	require.Error(t, err)
	_, err = knock(t, closed, stranger)
	require.NoError(t, err)
	_, err = knock(t, closed, second)
	require.NoError(t, err)
	require.NoError(t, os.Remove(files.CA))
	_, err = knock(t, closed, stranger)
	require.NoError(t, err)

	_, err = NewLoader(files, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A certificate that has expired still lets in the commands that tell so.
func TestOwnExpiredCertificate(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	expired := ca.newPair(t, "x", time.Now().AddDate(-2, 0, 0))
	other := ca.newPair(t, "y", time.Now().AddDate(-2, 0, 0))
	l, err := NewLoader(ca.write(t, expired), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = knock(t, l.ServerConfig(true), expired)
	require.NoError(t, err)
	_, err = knock(t, l.ServerConfig(true), other)
	require.Error(t, err)
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	l, err := NewLoader(ca.write(t, ca.newPair(t, "x", time.Now())), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", l.ServerConfig(false))
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	})
	_, err = tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	require.ErrorContains(t, err, "protocol version")
	require.NoError(t, listener.Close())
	wg.Wait()
}

func TestWatch(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, func(c *x509.Certificate) { // synctest's clock begins in 2000
		c.NotBefore, c.NotAfter = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	})
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	files := ca.write(t, ca.newPair(t, "x", begin.Add(-validity+WarnBefore+30*time.Hour)))
	renewed := ca.newPair(t, "x", begin.AddDate(0, 0, 33))
	synctest.Test(t, func(t *testing.T) {
		var logged basetest.Buffer
		count := func() int { return strings.Count(logged.String(), "needs attention") }
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { Watch(ctx, files, slog.New(slog.NewTextHandler(&logged, nil))) })
		time.Sleep(29 * time.Hour)
		synctest.Wait()
		require.Zero(t, count())
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Equal(t, 1, count())
		time.Sleep(71 * time.Hour)
		synctest.Wait()
		require.Equal(t, 3, count(), "once a day")
		time.Sleep(28 * 24 * time.Hour)
		synctest.Wait()
		require.Contains(t, logged.String(), "expired on", "at once, and not a day later")
		before := count()
		require.NoError(t, Replace(files, renewed))
		time.Sleep(100 * time.Hour)
		synctest.Wait()
		require.Equal(t, before, count(), "silent once renewed")
		stop()
		wg.Wait()
	})
}
