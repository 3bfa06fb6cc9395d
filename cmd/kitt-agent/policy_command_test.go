package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/preflight"
)

func TestPolicyShow(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	path := filepath.Join(m.home, "agent.yaml")
	require.NoError(t, os.WriteFile(path, []byte("server_url: http://127.0.0.1:1\npolicy:\n  storage_dirs: [/fast/models]\n  shares: []\n"), 0o600))
	did := m.run("policy", "show")
	require.Zero(t, did.code, did.err)
	out := did.out
	require.Regexp(t, `policy.storage_dirs +/fast/models +\S+agent.yaml:3 `, out)
	require.Regexp(t, `policy.shares +none +\S+agent.yaml:4 `, out)
	require.Regexp(t, `policy.images +\*kitt +default `, out)

	var limits []limit
	did = m.run("policy", "show", "--json")
	require.Zero(t, did.code)
	require.NoError(t, json.Unmarshal([]byte(did.out), &limits))
	require.Equal(t, "policy.server_may_set", limits[0].Key)
	require.Equal(t, policy.Settings(), limits[0].Values)
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("port: 1\n") // where no agent listens
	path := filepath.Join(m.home, "new.yaml")
	for text, want := range map[string]string{
		"policy: {images: [UPPER/X]}":                      "new.yaml:1: policy.images",
		"policy: {server_may_set: [token]}":                "it is not one of",
		"allowed_images: [kitt]\npolicy: {images: [kitt]}": "allowed_images is set too",
		"policy:\n  storage_dirs: [models]\n":              "new.yaml:2: policy.storage_dirs",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		did := m.run("policy", "check", path)
		require.Equal(t, exitFailure, did.code, text)
		require.Contains(t, did.err, want)
	}
	require.NoError(t, os.WriteFile(path, []byte("policy: {images: [kitt]}"), 0o600))
	did := m.run("policy", "check", path)
	require.Zero(t, did.code, did.err)
	require.Contains(t, did.out, "policy.images")
	require.Contains(t, did.err, "no agent is running")
	require.Equal(t, exitFailure, m.run("policy", "check", path+".absent").code)
	require.Equal(t, exitUsage, m.run("policy", "check").code)
}

func TestPolicyCheckSeesWhatIsInUse(t *testing.T) {
	t.Parallel()
	p := policy.Default(policy.Machine{})
	status := &agent.Status{
		Settings:       map[string]string{"kitt_image": "evil", "model_storage_dir": "/etc", "model_share_mount": "/anywhere", "auto_cleanup": "true"},
		SettingSources: map[string]string{"kitt_image": agent.SourceServer, "model_storage_dir": agent.SourceRemembered, "model_share_mount": agent.SourceMachine, "auto_cleanup": agent.SourceServer},
	}
	refused := refusedBy(p, status)
	require.Len(t, refused, 2)
	require.Contains(t, refused[0], "kitt_image evil: it is not one of the images")
	require.Contains(t, refused[1], "model_storage_dir /etc: it is not below")
}

func TestPreflightWarnsOfAWidePolicy(t *testing.T) {
	t.Parallel()
	require.Empty(t, policyCheck(&config.Config{}))
	checks := policyCheck(&config.Config{Policy: config.Policy{StorageDirs: []string{"/etc"}, Images: []string{"*"}}})
	require.Len(t, checks, 1)
	result := preflight.Run(t.Context(), checks, nil)[0]
	require.Equal(t, preflight.Warn, result.Status)
	require.Contains(t, result.Details, "policy.storage_dirs has /etc")
	require.Contains(t, result.Details, "policy.images has *")
}
