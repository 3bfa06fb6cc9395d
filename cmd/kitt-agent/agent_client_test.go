package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// What is wrong with the files of the agent's certificate is said with the key
// that names them.
func TestAgentClientNamesBadFiles(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Path: "agent.yaml", TLS: config.TLS{Cert: "/nonexistent", Key: "/nonexistent"}}
	_, err := newAgentClient(cfg)
	require.ErrorContains(t, err, "tls.cert and tls.key of agent.yaml")

	ca, dir := newCA(t)
	pair, err := ca.NewPair(certs.ThisMachine("gpu-1"), time.Now())
	require.NoError(t, err)
	files := certs.Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem"), CA: filepath.Join(dir, "ca.pem")}
	require.NoError(t, certs.Replace(files, pair))
	cfg.TLS = config.TLS{Cert: files.Cert, Key: files.Key, CA: files.CA}
	_, err = newAgentClient(cfg)
	require.NoError(t, err)
	empty := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for path, want := range map[string]string{empty: "no certificate in", "/nonexistent": "no such file"} {
		cfg.TLS.CA = path
		_, err = newAgentClient(cfg)
		require.ErrorContains(t, err, "tls.ca of agent.yaml")
		require.ErrorContains(t, err, want)
	}
}
