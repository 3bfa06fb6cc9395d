package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent"
)

// write puts text into an agent.yaml of its own and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// environ returns a lookup of variables, HOME among them.
func environ(pairs ...string) func(string) string {
	vars := map[string]string{"HOME": "/home/kitt"}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return vars[name] }
}

func resolve(t *testing.T, text string) (*Config, []string, error) {
	t.Helper()
	return Sources{Path: write(t, text), Getenv: environ()}.Resolve()
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, warnings, err := Sources{Getenv: environ()}.Resolve()
	require.NoError(t, err)
	require.Empty(t, warnings)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, host, c.Name)
	require.Equal(t, "/home/kitt/.kitt/agent.yaml", c.Path)
	require.Equal(t, "/home/kitt/.kitt/agent.pid", c.PIDFile())
	require.Equal(t, "/home/kitt/.kitt/logs/agent.log", c.LogFile())
	require.Equal(t, 8090, c.Port)
	require.Equal(t, "auto", c.Runner)
	require.Equal(t, "auto", c.GPUs)
	require.Zero(t, c.MaxConcurrentJobs, "the agent decides: 1, or one for each set of GPUs")
	require.Equal(t, 10*time.Second, c.StopGrace)
	require.Equal(t, 30*24*time.Hour, c.Retention.MaxAge)
	require.EqualValues(t, 2<<30, c.Retention.MaxSize)
	require.Equal(t, Models{Streams: 16, ShareTimeout: 30 * time.Second}, c.Models)
	require.Nil(t, c.AutoCleanup)
	require.Zero(t, c.HeartbeatInterval)
	require.Equal(t, "127.0.0.1:8090", c.ListenAddress(), "an agent without a token listens on this machine only")
	require.Equal(t, "http://127.0.0.1:8090", c.LocalURL())
	require.Equal(t, "default", c.Origin("port"))
	require.False(t, c.Exists())
}

// Files as the Python CLI's init writes them.
func TestPythonFiles(t *testing.T) {
	t.Parallel()
	c, warnings, err := resolve(t, `name: gpu-61
port: 8090
server_url: https://server:8080
token: ''
`)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "gpu-61", c.Name)
	require.Equal(t, "https://server:8080", c.ServerURL)
	require.Empty(t, c.Token)

	c, warnings, err = resolve(t, `auto_cleanup: no
model_share_mount: /mnt/models
model_share_source: nas:/volume1/models
model_storage_dir: ~/models
name: 61
port: '9000'
server_url: http://10.0.0.5:8080/
tls:
  ca: /home/user/.kitt/certs/ca.pem
  cert: /home/user/.kitt/certs/agent.pem
  key: /home/user/.kitt/certs/agent-key.pem
token: 0123456789abcdef
kitt_image: null
heartbeat_interval_s: 60
`)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "61", c.Name)
	require.Equal(t, "http://10.0.0.5:8080", c.ServerURL)
	require.Equal(t, 9000, c.Port)
	require.Equal(t, "0123456789abcdef", c.Token.Reveal())
	require.NotNil(t, c.AutoCleanup)
	require.False(t, *c.AutoCleanup)
	require.True(t, c.ServesTLS())
	require.Equal(t, "https://127.0.0.1:9000", c.LocalURL())
	require.Equal(t, ":9000", c.ListenAddress())
	require.Equal(t, time.Minute, c.HeartbeatInterval)
}

func TestOurKeys(t *testing.T) {
	t.Parallel()
	c, warnings, err := resolve(t, `name: a
server_token: operator
listen: 0.0.0.0
gpus: none
runner: process
max_concurrent_jobs: 2
stop_grace: 30s
max_job_duration: 1.5d
allowed_images: [kitt*, "registry.example/kitt:*"]
allowed_hosts: [gpu.example, 10.0.0.7]
retention: {max_age: 7d, max_size: 500MB}
models: {max_size: 2TiB, keep_free: 50GiB, streams: 4, share_timeout: 2m, dirs: [/data/hub, ~/hub]}
log: {level: debug, format: json}
policy:
  engine_images: [vllm/vllm-openai, "registry.example/*:v1"]
  caches: [/var/cache/engines]
  container:
    network: job
    user: 1000:1000
    cap_add: [SYS_NICE]
    pids: 65536
    memory: 90%
    read_only_root: true
limits: {connections: 64, followers: 10}
env:
  HF_TOKEN: $HF_TOKEN
  HF_HOME: /data/hf
`)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "operator", c.ServerToken.Reveal())
	require.Equal(t, "0.0.0.0:8090", c.ListenAddress())
	require.Equal(t, "http://127.0.0.1:8090", c.LocalURL())
	require.Equal(t, []string{"kitt*", "registry.example/kitt:*"}, c.AllowedImages)
	require.Equal(t, []string{"gpu.example", "10.0.0.7"}, c.AllowedHosts)
	require.Equal(t, 36*time.Hour, c.MaxJobDuration)
	require.Equal(t, 30*time.Second, c.StopGrace)
	require.Equal(t, Retention{MaxAge: 7 * 24 * time.Hour, MaxSize: 500_000_000}, c.Retention)
	require.Equal(t, Models{MaxSize: 2 << 40, KeepFree: 50 << 30, Streams: 4, ShareTimeout: 2 * time.Minute, Dirs: []string{"/data/hub", "~/hub"}}, c.Models)
	require.Equal(t, Log{Level: slog.LevelDebug, Format: "json"}, c.Log)
	require.Equal(t, Policy{
		Engines:      EnginePolicy{Listen: "127.0.0.1"},
		EngineSocket: "proxy", EngineImages: []string{"vllm/vllm-openai", "registry.example/*:v1"}, Caches: []string{"/var/cache/engines"},
		Container: ContainerPolicy{
			Network: "job", User: "1000:1000", CapAdd: []string{"SYS_NICE"}, Pids: 65536, MemoryPercent: 90, ReadOnlyRoot: true,
		},
	}, c.Policy)
	require.Equal(t, Limits{Log: 4 << 30, Connections: 64, Followers: 10}, c.Limits)
	value, err := c.Env["HF_TOKEN"].Resolve(environ("HF_TOKEN", "hf_x"))
	require.NoError(t, err)
	require.Equal(t, "hf_x", value.Reveal())
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"port", "name: a\nport: 80900\n", `:2: port: "80900" does not work: it is out of range; allowed is 1 to 65535`},
		{"port text", "port: http\n", `:1: port: "http" does not work: it is no whole number`},
		{"nested twice", "policy:\n  container:\n    network: bridge\n", `:3: policy.container.network: "bridge" does not work: it is none of these`},
		{"twice below", "policy:\n  container:\n    network: job\n    network: host\n", `:4: policy.container.network: it stands on line 3 already`},
		{"pattern of images", "policy: {engine_images: ['[']}\n", "is neither the name of an image nor a pattern"},
		{"a cache at the root", "policy: {caches: [/]}\n", "it is the root of the file system"},
		{"user", "policy: {container: {user: 'a b'}}\n", "it is not of the form user or user:group"},
		{"memory without a unit", "policy: {container: {memory: 90}}\n", "it is not a percentage, such as 90%"},
		{"memory of two machines", "policy: {container: {memory: 200%}}\n", "it is out of range"},
		{"a group that is a text", "policy: strict\n", `:1: policy: it is not a map of settings; write its settings below it, as in policy: {`},
		{"a group that is a list", "limits:\n  - log: 1GiB\n", `:1: limits: it is not a map of settings; write its settings below it, as in limits: {log: …}`},
		{"a group within a group", "policy: {container: [host]}\n", `policy.container: it is not a map of settings; write its settings below it, as in policy.container: {network: …}`},
		{"an entry of a list", "policy: {container: {cap_add: [SYS_NICE, nice]}}\n", `policy.container.cap_add: entry 2, "nice": it is not the name of a capability`},
		{"an entry that is a list", "policy: {caches: [[/a]]}\n", `policy.caches: entry 1: it is a list or a map`},
		{"an engine that cannot be installed", "policy: {engines: {install: [vllm]}}\n", `policy.engines.install: entry 1, "vllm": it is a Python package, which an agent does not install; install it into ~/.kitt/vllm-venv with pip`},
		{"a package of one", "engines: {packages: {vllm: {version: a}}}\n", `engines.packages: vllm: it is a Python package`},
		{"capability", "policy: {container: {cap_add: [CAP_SYS_NICE]}}\n", "it is not the name of a capability without CAP_"},
		{"no capability", "policy: {container: {cap_add: [FOO]}}\n", "it is not the name of a capability without CAP_"},
		{"all capabilities", "policy: {container: {cap_add: [ALL]}}\n", "it is not the name of a capability without CAP_"},
		{"a job's network without a proxy", "policy: {engine_socket: host, container: {network: job}}\n", "needs policy.engine_socket: proxy"},
		{"slash", "name: a/b\n", `:1: name: "a/b" does not work: it has a slash`},
		{"blank name", "name: '  '\n", "it is empty"},
		{"url", "server_url: server:8080\n", `it is no address such as https://server:8080`},
		{"url with a slash in its password", "server_url: https://u:p/p@server\n", `"https://…@server" does not work: it is no address`},
		{"url with password", "server_url: https://u:p@server\n", `"https://…@server" does not work: it holds a user name or a password`},
		{"token", "token: a b\n", ":1: token: it holds blanks"},
		{"token umlaut", "token: über\n", ":1: token: it holds blanks or characters outside"},
		{"list", "port: [1]\n", "it is a list or a map"},
		{"gpus", "gpus: some\n", `allowed is auto, all or none`},
		{"runner", "runner: podman\n", `allowed is auto, docker, process, simulated or slurm`},
		{"no unit", "stop_grace: 10\n", "it has no unit"},
		{"interval", "heartbeat_interval_s: 5\n", "allowed is 10 to 300"},
		{"size", "retention:\n  max_size: lots\n", `:2: retention.max_size: "lots" does not work: it is no size`},
		{"too small", "models:\n  max_size: 5kB\n", `:2: models.max_size: "5kB" does not work: it is too little; allowed is 0 for no limit`},
		{"bool", "auto_cleanup: perhaps\n", "neither true nor false"},
		{"relative", "model_storage_dir: models\n", "it is relative"},
		{"dots", "model_storage_dir: /a/../b\n", "it has .. in it"},
		{"root", "model_storage_dir: /\n", "root of the file system"},
		{"share", "model_share_source: nas\n", "host:/directory"},
		{"image", "kitt_image: --privileged\n", "it is no image reference"},
		{"listen", "listen: 0.0.0.0:80\n", "the port has a key of its own"},
		{"host with a port", "allowed_hosts: [gpu.example, gpu:8090]\n", `"gpu:8090" is not a host name; write it without a scheme and a port`},
		{"host that is an address", "allowed_hosts: ['http://gpu']\n", "is not a host name"},
		{"any host", "allowed_hosts: ['*']\n", "is not a host name"},
		{"no list of hosts", "allowed_hosts: gpu.example\n", "it is no list"},
		{"env", "env: {HF-TOKEN: x}\n", `"HF-TOKEN" is no name of a variable`},
		{"env ref", "env: {A: '$'}\n", "a $ itself is written $$"},
		{"half tls", "tls: {cert: /a}\n", "of cert and key only one is set"},
		{"client cert", "require_client_cert: true\n", "nothing to check certificates with"},
		{"twice", "port: 1\nname: a\nport: 2\n", ":3: port: it stands on line 1 already"},
		{"tab", "name: a\n\tport: 1\n", "mend the YAML there"},
		{"list file", "- a\n", ":1: the file is not a list of keys and values"},
		{"utf-16", "\xff\xfea\x00", "not a text in UTF-8"},
		{"text file", "hello\n", "the file is not a list of keys and values"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := resolve(t, tt.text)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "agent.yaml")
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := resolve(t, "port: 0\ngpus: x\n")
	require.ErrorContains(t, err, "port")
	require.ErrorContains(t, err, "gpus")
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	path := write(t, "name: file\nport: 1\nserver_url: http://file\n")
	s := Sources{Path: path, Getenv: environ("KITT_NAME", "env", "KITT_PORT", "2", "KITT_TOKEN", "t"), Flags: map[string]string{"port": "3"}}
	c, _, err := s.Resolve()
	require.NoError(t, err)
	require.Equal(t, "http://file", c.ServerURL)
	require.Equal(t, "env", c.Name)
	require.Equal(t, 3, c.Port)
	require.Equal(t, path+":3", c.Origin("server_url"))
	require.Equal(t, "KITT_NAME", c.Origin("name"))
	require.Equal(t, "command line", c.Origin("port"))

	s.Getenv = environ("KITT_PORT", "x")
	_, _, err = s.Resolve()
	require.ErrorContains(t, err, "KITT_PORT: port:")

	s = Sources{Getenv: environ("KITT_HOME", "/srv/kitt/")}
	c, _, err = s.Resolve()
	require.NoError(t, err)
	require.Equal(t, "/srv/kitt/agent.yaml", c.Path)
	_, _, err = Sources{Getenv: environ("KITT_HOME", "kitt")}.Resolve()
	require.ErrorContains(t, err, "give an absolute path")
	_, _, err = Sources{}.Resolve()
	require.ErrorContains(t, err, "set KITT_HOME")
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	path := write(t, "name: a\nsever_url: http://x\nserver: x\nfuture: {a: 1}\nlog: {colour: red}\ntoken: t\nretention:\n")
	require.NoError(t, os.Chmod(path, 0o644))
	_, warnings, err := Sources{Path: path, Getenv: environ()}.Resolve()
	require.NoError(t, err)
	require.Equal(t, []string{
		path + `:2: unknown key "sever_url" is ignored; did you mean server_url?`,
		path + `:3: unknown key "server" is ignored; did you mean server_url?`,
		path + `:4: unknown key "future" is ignored`,
		path + `:5: unknown key "log.colour" is ignored`,
		path + " holds a token and others can read it (mode 0644); run: chmod 600 " + path,
	}, warnings)
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open(dir)
	require.ErrorContains(t, err, "it is not a plain file")
	big := filepath.Join(dir, "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("#"), maxFile+1), 0o600))
	_, err = Open(big)
	require.ErrorContains(t, err, "it is longer than")
}

func TestSetKeepsTheRest(t *testing.T) {
	t.Parallel()
	path := write(t, `# The agent of rack 7.
name: old # agreed with the night shift

future:
    nested: [1, 2]
# where from
server_url: "http://old"
tls:
  ca: /ca.pem # ours
`)
	require.NoError(t, os.Chmod(path, 0o644))
	f, err := Open(path)
	require.NoError(t, err)
	require.True(t, f.Has("tls.ca"))
	require.False(t, f.Has("port"))
	for name, value := range map[string]string{"name": "yes", "port": "9000", "tls.ca": "/new.pem"} {
		require.NoError(t, f.Set(name, value))
	}
	require.NoError(t, f.Set("token", "0123"))
	require.ErrorContains(t, f.Set("port", "x"), "it is no whole number")
	require.ErrorContains(t, f.Set("prot", "1"), "there is no such key")
	require.NoError(t, f.Save())

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, kept := range []string{"# The agent of rack 7.\n", `name: "yes" # agreed with the night shift`, "nested: [1, 2]",
		"# where from\n", `server_url: "http://old"`, "ca: /new.pem # ours", "port: 9000\n", `token: "0123"`} {
		require.Contains(t, string(text), kept)
	}
	c, _, err := Sources{Path: path, Getenv: environ()}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "yes", c.Name)
	require.Equal(t, "/new.pem", c.TLS.CA)
	require.Equal(t, "0123", c.Token.Reveal())
}

// A file that already says it all is not touched, however it is written.
func TestSaveWithoutAChange(t *testing.T) {
	t.Parallel()
	const text = "port:    '9000'\nname: &n a\nserver_url: \"http://old\"\ntls: {ca: /ca.pem}\ntoken: ~\n"
	path := write(t, text)
	before, err := os.Stat(path)
	require.NoError(t, err)
	f, err := Open(path)
	require.NoError(t, err)
	for name, value := range map[string]string{"port": "9000", "name": "a", "server_url": "http://old", "tls.ca": "/ca.pem"} {
		require.NoError(t, f.Set(name, value))
	}
	require.False(t, f.Changed())
	require.NoError(t, f.Save())
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))

	require.NoError(t, f.Set("token", "~"), "which is a text, where the file has none")
	require.True(t, f.Changed())
	require.NoError(t, f.Save())
	require.False(t, f.Changed())
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, 0o640))
	f, err = Open(path)
	require.NoError(t, err)
	require.True(t, f.Changed(), "others may read it")
	require.True(t, New(path).Changed())
}

func TestNewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deep", "agent.yaml")
	f := New(path)
	require.NoError(t, f.Set("name", "a"))
	require.NoError(t, f.Set("tls.cert", "/c"))
	require.NoError(t, f.Set("tls.key", "/k"))
	require.NoError(t, f.Set("auto_cleanup", "false"))
	require.NoError(t, f.Save())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "name: a\ntls:\n  cert: /c\n  key: /k\nauto_cleanup: false\n", string(text))
}

func TestCommentsOnlyAndEmpty(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# nothing yet\n", "null\n", "---\n", "{}\n"} {
		path := write(t, text)
		f, err := Open(path)
		require.NoError(t, err, "%q", text)
		require.NoError(t, f.Set("name", "a"))
		require.NoError(t, f.Save())
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(after), "name: a")
		if strings.HasPrefix(text, "#") {
			require.Contains(t, string(after), "# nothing yet")
		}
	}
}

func TestSaveThroughLink(t *testing.T) {
	t.Parallel()
	path := write(t, "name: a\n")
	link := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.Symlink(path, link))
	f, err := Open(link)
	require.NoError(t, err)
	require.NoError(t, f.Set("name", "b"))
	require.NoError(t, f.Save())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "name: b\n", string(text))
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	s := agent.Secret("hunter2")
	var out bytes.Buffer
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, &struct{ S agent.Secret }{s})
		fmt.Fprintf(&out, verb, Reference{raw: s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "config", Config{Token: s, ServerToken: s})
	require.NoError(t, json.NewEncoder(&out).Encode(map[string]any{"s": s, "c": Config{Token: s}}))
	require.NoError(t, yaml.NewEncoder(&out).Encode(map[string]any{"s": s, "c": struct{ Token agent.Secret }{s}}))
	require.NotContains(t, out.String(), "hunter2")
	require.NotContains(t, out.String(), fmt.Sprintf("%x", "hunter2"))
	require.Empty(t, agent.Secret("").String())
}

func TestReferences(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("from file\n"), 0o600))
	getenv := environ("A", "from variable")
	tests := []struct{ raw, want, wantErr string }{
		{"plain", "plain", ""},
		{"$A", "from variable", ""},
		{"${A}", "from variable", ""},
		{"$$A", "$A", ""},
		{"file:" + file, "from file", ""},
		{"$B", "", "has no B"},
		{"file:/nonexistent/x", "", "no such file"},
	}
	for _, tt := range tests {
		r := Reference{raw: agent.Secret(tt.raw)}
		require.NoError(t, r.check())
		value, err := r.Resolve(getenv)
		if tt.wantErr != "" {
			require.ErrorContains(t, err, tt.wantErr)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, value.Reveal())
	}
	require.Error(t, Reference{raw: "file:x"}.check())
}

func TestKeysAreComplete(t *testing.T) {
	t.Parallel()
	names, vars := map[string]bool{}, map[string]bool{}
	for _, k := range Keys() {
		require.NotEmpty(t, k.Allowed, k.Name)
		require.NotEmpty(t, k.Meaning, k.Name)
		require.False(t, names[k.Name], k.Name)
		names[k.Name] = true
		for _, v := range k.Variables() {
			require.False(t, vars[v], v)
			vars[v] = true
		}
	}
}

// TestDefaultsAreAsDocumented sets each key to the default that its documentation names,
// if that is a value: it changes nothing.
func TestDefaultsAreAsDocumented(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, k := range Keys() {
		c := defaults()
		if k.set(c, &yaml.Node{Kind: yaml.ScalarNode, Value: k.Default}) != nil {
			continue // words such as "none"
		}
		if !slices.Contains([]string{"name", "kitt_image", "model_storage_dir", "auto_cleanup", "heartbeat_interval_s"}, k.Name) && !strings.HasPrefix(k.Name, "integrity.limits.") { // unset, these are decided elsewhere
			require.Equal(t, defaults(), c, k.Name)
			checked++
		}
	}
	require.Greater(t, checked, 20)
}

// KITT's own generated stack gives its agent these two variables and no file.
func TestVariablesOfKITTsStack(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	c, _, err := Sources{Getenv: environ("KITT_HOME", home, "KITT_SERVER_URL", "https://server:8080", "KITT_AUTH_TOKEN", "operators")}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "https://server:8080", c.ServerURL)
	require.Equal(t, "operators", c.ServerToken.Reveal())
	require.Empty(t, c.Token.Reveal(), "the server shows the beginning of an agent's token to everybody")
	require.Equal(t, "KITT_AUTH_TOKEN", c.Origin("server_token"))

	c, _, err = Sources{Getenv: environ("KITT_HOME", home, "KITT_SERVER_URL", "https://server:8080", "KITT_SERVER", "https://other:8080")}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "https://other:8080", c.ServerURL, "the agent's own variable is the stronger one")
}

// FuzzFile holds two promises for any text: reading it doesn't crash, and what
// was read is still there after a key was set and the file saved.
func FuzzFile(f *testing.F) {
	f.Add("name: a\n# c\ntls: {ca: /x}\nunknown: [1]\n")
	f.Add("a: &x {b: *x}\n")
	f.Add("? [1]\n: 2\nenv: {A: *b}\n")
	f.Add("<<: {name: a}\ntls:\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parse("agent.yaml", []byte(text))
		if err != nil {
			return
		}
		before, _, err := apply(file)
		if err != nil {
			return
		}
		file.path = filepath.Join(t.TempDir(), "agent.yaml")
		require.NoError(t, file.Set("port", "4321"))
		if file.Save() != nil {
			require.NoFileExists(t, file.path)
			return
		}
		again, err := Open(file.path)
		require.NoError(t, err)
		after, _, err := apply(again)
		require.NoError(t, err)
		before.Port, after.Port = 0, 0
		before.origins, after.origins = nil, nil
		require.Equal(t, before, after)
	})
}

func apply(f *File) (*Config, []string, error) {
	c := defaults()
	warnings, err := f.apply(c)
	return c, warnings, err
}

func FuzzDurationAndSize(f *testing.F) {
	f.Add("30d")
	f.Add("1e300GiB")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && strings.HasSuffix(text, "d") {
			require.GreaterOrEqual(t, d, time.Duration(0))
		}
		if n, err := ParseSize(text); err == nil {
			require.GreaterOrEqual(t, n, int64(0))
		}
	})
}
