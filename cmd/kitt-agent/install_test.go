package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate/selfupdatetest"
)

// installation is a machine that install.sh is run on.
type installation struct {
	t      *testing.T
	home   string
	server *kittapitest.Server

	pack []byte            // what the server offers, signed
	key  ed25519.PublicKey // that it is signed with
}

// digest returns the digest of the server's package.
func (i *installation) digest() string {
	sum := sha256.Sum256(i.pack)
	return hex.EncodeToString(sum[:])
}

// newInstallation returns a machine with a server that offers a package with
// this program for two platforms, of which the one with NVML doesn't run here.
func newInstallation(t *testing.T) *installation {
	t.Helper()
	prog := buildProgram(t)
	text, err := os.ReadFile(prog.path)
	require.NoError(t, err)
	platform := "linux_" + runtime.GOARCH
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	pack := selfupdatetest.Package{
		Version:  "v1.0.0",
		Programs: map[string][]byte{platform: text, platform + "_nvml": []byte("#!/nowhere/ld.so\n")},
		Key:      private,
	}.Bytes()
	server, err := kittapitest.NewServer(kittapitest.Config{Package: pack})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return &installation{t, t.TempDir(), server, pack, public}
}

// file returns the path of a new file with data.
func (i *installation) file(data []byte) string {
	i.t.Helper()
	path := filepath.Join(i.t.TempDir(), "package.tar.gz")
	require.NoError(i.t, os.WriteFile(path, data, 0o600))
	return path
}

// run runs install.sh and returns what it said.
func (i *installation) run(args ...string) (string, error) {
	i.t.Helper()
	cmd := exec.CommandContext(i.t.Context(), "sh", append([]string{filepath.Join("..", "..", "install.sh"), "--dir", filepath.Join(i.home, "bin")}, args...)...)
	// No engine answers, and the machine's own settings play no part.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + i.home, "DOCKER_HOST=unix:///nowhere/docker.sock"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestInstallScript(t *testing.T) {
	for _, tool := range []string{"curl", "tar", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIPPED: install.sh needs ", tool)
		}
	}
	t.Parallel()
	i := newInstallation(t)
	agent := filepath.Join(i.home, "bin", "kitt-agent")

	t.Run("a machine that fails the check gets no settings", func(t *testing.T) {
		said, err := i.run("--server", i.server.URL, "--sha256", i.digest(), "--port", "1") // which root alone may listen on, and GPUs are missing
		require.Error(t, err, said)
		require.Contains(t, said, "_nvml/kitt-agent does not run on this machine")
		require.Contains(t, said, "The image was not built; try again later: "+agent+" build")
		require.Contains(t, said, "leave the check out with --no-preflight")
		require.Less(t, strings.Index(said, "The image was not built"), strings.Index(said, "machine lacks something"))
		require.FileExists(t, agent)
		require.NoFileExists(t, filepath.Join(i.home, ".kitt", "agent.yaml"))
	})

	t.Run("twice", func(t *testing.T) {
		for range 2 {
			said, err := i.run("--server", i.server.URL, "--sha256", i.digest(), "--name", "gpu-7", "--no-preflight", "--no-build")
			require.NoError(t, err, said)
			text, err := os.ReadFile(filepath.Join(i.home, ".kitt", "agent.yaml"))
			require.NoError(t, err)
			require.Contains(t, string(text), "name: gpu-7\n")
			require.Contains(t, string(text), "server_url: "+i.server.URL+"\n")
			require.NoError(t, exec.Command(agent, "version").Run())
		}
		files, err := os.ReadDir(filepath.Dir(agent))
		require.NoError(t, err)
		require.Len(t, files, 1, "nothing of the installation is left")
	})

	t.Run("cut in mid-download", func(t *testing.T) {
		before, err := os.Stat(agent)
		require.NoError(t, err)
		i.server.SetFault(func(r *http.Request) kittapitest.Fault {
			return kittapitest.Fault{CutAnswer: strings.HasSuffix(r.URL.Path, "/package")}
		})
		defer i.server.SetFault(nil)
		said, err := i.run("--server", i.server.URL, "--sha256", i.digest(), "--no-preflight", "--no-build", "--no-init")
		require.Error(t, err, said)
		after, err := os.Stat(agent)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), "the program from before stays")
	})

	t.Run("tampered", func(t *testing.T) {
		dir := t.TempDir()
		platform := "kitt-agent_linux_" + runtime.GOARCH
		require.NoError(t, os.WriteFile(filepath.Join(dir, platform), []byte("#!/bin/sh\ntouch /tmp/owned\n"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(strings.Repeat("ab", 32)+"  "+platform+"\n"), 0o644))
		said, err := i.run("--from", dir)
		require.Error(t, err)
		require.Contains(t, said, "is damaged or another one")
	})

	t.Run("over http unchecked", func(t *testing.T) {
		for _, args := range [][]string{{"--server", i.server.URL}, {"--from", i.server.URL + "/api/v1/agent/package.tar.gz"}, {"--from", i.server.URL}} {
			said, err := i.run(args...)
			require.Error(t, err)
			require.Regexp(t, "needs --sha256 or --key|has to come over https", said)
		}
		said, err := i.run("--server", i.server.URL, "--sha256", strings.Repeat("0", 64))
		require.Error(t, err)
		require.Contains(t, said, "the package is damaged or another one")
	})

	t.Run("signed", func(t *testing.T) {
		if _, err := exec.LookPath("openssl"); err != nil {
			t.Skip("SKIPPED: install.sh needs openssl")
		}
		other, _, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		der, err := x509.MarshalPKIXPublicKey(i.key)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "update.pem")
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
		for key, want := range map[string]string{
			base64.StdEncoding.EncodeToString(i.key): "Installed kitt-agent",
			base64.StdEncoding.EncodeToString(der):   "Installed kitt-agent",
			file:                                     "Installed kitt-agent",
			base64.StdEncoding.EncodeToString(other): "the package is not signed with the key of --key",
			"%":                                      "--key is neither a public key in base64 nor a file with one",
			"":                                       "needs --sha256 or --key",
		} {
			said, err := i.run("--server", i.server.URL, "--key", key, "--no-preflight", "--no-build", "--no-init")
			require.Equal(t, strings.HasPrefix(want, "Installed"), err == nil, said)
			require.Contains(t, said, want)
		}
		release := t.TempDir()
		require.NoError(t, exec.Command("tar", "-xzf", i.file(i.pack), "-C", release, "SHA256SUMS", "SHA256SUMS.sig").Run())
		said, err := i.run("--from", release, "--key", base64.StdEncoding.EncodeToString(other))
		require.Error(t, err)
		require.Contains(t, said, "the release is not signed with the key of --key")
		require.NoError(t, os.Remove(filepath.Join(release, "SHA256SUMS.sig")))
		said, err = i.run("--from", release, "--key", file)
		require.Error(t, err)
		require.Contains(t, said, "is not signed")
		said, err = i.run("--from", release, "--sha256", i.digest())
		require.Error(t, err)
		require.Contains(t, said, "--sha256 is the digest of an update package")
	})

	t.Run("the Python agent's package", func(t *testing.T) {
		sdist := filepath.Join(t.TempDir(), "kitt_agent-1.7.0.tar.gz")
		require.NoError(t, os.WriteFile(sdist, selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/PKG-INFO"}), 0o644))
		said, err := i.run("--from", sdist)
		require.Error(t, err)
		require.Contains(t, said, "this is the package of the Python agent")
	})

	t.Run("a file or a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "kitt agent.download")
		require.NoError(t, os.WriteFile(file, i.pack, 0o600))
		said, err := i.run("--from", file, "--sha256", i.digest(), "--no-preflight")
		require.NoError(t, err, said)
		require.Contains(t, said, "Installed kitt-agent")

		// A directory may be called what it likes, too.
		release := filepath.Join(t.TempDir(), "v1.0.0.tar.gz")
		require.NoError(t, os.Mkdir(release, 0o755))
		name, platform := "kitt-agent_linux_"+runtime.GOARCH, "linux_"+runtime.GOARCH+"/kitt-agent"
		require.NoError(t, exec.Command("tar", "-xzf", file, "-C", release, platform).Run())
		require.NoError(t, os.Rename(filepath.Join(release, platform), filepath.Join(release, name)))
		program, err := os.ReadFile(filepath.Join(release, name))
		require.NoError(t, err)
		sums := fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(program), name)
		require.NoError(t, os.WriteFile(filepath.Join(release, "SHA256SUMS"), sums, 0o644))
		said, err = i.run("--from", release, "--no-preflight")
		require.NoError(t, err, said)
		require.Contains(t, said, "Installed kitt-agent")

		said, err = i.run("--from", filepath.Join(t.TempDir(), "absent.tar.gz"))
		require.Error(t, err)
		require.Contains(t, said, "there is no ")
	})

	t.Run("flags without effect are refused", func(t *testing.T) {
		server := slices.Clip([]string{"--server", i.server.URL, "--sha256", i.digest()})
		from := slices.Clip([]string{"--from", i.file(i.pack)})
		for want, args := range map[string][]string{
			"--name has no effect without --server":       append(from, "--name", "gpu-7"),
			"--port has no effect without --server":       append(from, "--port", "8091"),
			"--token-file has no effect without --server": append(from, "--token-file", "token"),
			"--ca has no effect without --server or":      append(from, "--ca", "ca.pem"),
			"--name has no effect with --no-init":         append(server, "--no-init", "--name", "gpu-7"),
			"--token-file has no effect with --no-init":   append(server, "--no-init", "--token-file", "token"),
			"--port has no effect with --no-init and":     append(server, "--no-init", "--no-preflight", "--port", "8091"),
		} {
			said, err := i.run(args...)
			require.Error(t, err, said)
			require.Contains(t, said, want)
		}
	})

	t.Run("wrong use", func(t *testing.T) {
		said, err := i.run()
		require.Error(t, err)
		require.Contains(t, said, "usage: install.sh")
	})
}

// TestACutInstallScriptDoesNothing runs every beginning of install.sh that ends
// with a line.
func TestACutInstallScriptDoesNothing(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "install.sh"))
	require.NoError(t, err)
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	home := t.TempDir()
	for n := 1; n < len(lines); n += 7 {
		cmd := exec.CommandContext(t.Context(), "sh", "-s", "--", "--server", "http://127.0.0.1:1")
		cmd.Stdin = strings.NewReader(strings.Join(lines[:n], ""))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
		out, _ := cmd.CombinedOutput() // a syntax error is as good
		require.NotContains(t, string(out), "Downloading", "line %d", n)
	}
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left)
}
