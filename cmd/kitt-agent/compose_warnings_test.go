package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

func TestFilesThatOthersCanRead(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Path: filepath.Join(t.TempDir(), "agent.yaml")}
	cfg.TLS.Key = filepath.Join(t.TempDir(), "key.pem")
	require.Empty(t, modeWarnings(cfg), "there are none")
	for _, file := range []string{cfg.Path, cfg.TLS.Key} {
		require.NoError(t, os.WriteFile(file, nil, 0o600))
	}
	require.Empty(t, modeWarnings(cfg))
	require.NoError(t, os.Chmod(cfg.TLS.Key, 0o640))
	require.Equal(t, []string{"other users can read the private key in " + cfg.TLS.Key + " (mode 0640); run: chmod 600 " + cfg.TLS.Key}, modeWarnings(cfg))
	require.NoError(t, os.Chmod(cfg.Path, 0o644))
	require.Len(t, modeWarnings(cfg), 2)
}

// A certificate that ends within a week degrades the agent, one that has ended blocks it.
func TestCertificateProblems(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	now := time.Now()
	pair, err := ca.NewPair(certs.ThisMachine("gpu-1"), now)
	require.NoError(t, err)
	dir := t.TempDir()
	cfg := &config.Config{}
	cfg.TLS.Cert, cfg.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, certs.Replace(tlsFiles(cfg), pair))
	end := pair.Leaf().NotAfter
	for before, want := range map[time.Duration]health.Reason{
		8 * 24 * time.Hour: "", 6 * 24 * time.Hour: health.CertificateExpiring, -time.Hour: health.CertificateExpired,
	} {
		problems := tlsProblems(cfg, end.Add(-before))
		if want == "" {
			require.Empty(t, problems)
			continue
		}
		require.Len(t, problems, 1)
		require.Equal(t, want, problems[0].Reason)
		require.Contains(t, problems[0].String(), "the agent's certificate ("+cfg.TLS.Cert+"), on "+end.UTC().Format(time.DateOnly))
		require.Equal(t, "make a new one: kitt-agent certs renew", problems[0].Remedy)
	}
}
