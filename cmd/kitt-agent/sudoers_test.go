package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/policy"
)

// allowedBy reports whether a rule of text allows the command line.
func allowedBy(t *testing.T, text, line string) bool {
	t.Helper()
	program, args, _ := strings.Cut(line, " ")
	for rule := range strings.Lines(text) {
		_, command, ok := strings.Cut(strings.TrimSpace(rule), "NOPASSWD: ")
		if !ok {
			continue
		}
		at, expression, _ := strings.Cut(command, " ")
		matched, err := regexp.MatchString(expression, args)
		require.NoError(t, err)
		if at == program && matched {
			return true
		}
	}
	return false
}

func TestSudoers(t *testing.T) {
	t.Parallel()
	p := policy.Default(policy.Machine{ShareMount: "/data/nas.1"})
	text := sudoers("kitt-agent", "/usr/bin/mount", "/usr/bin/mkdir", p, "")
	const mount = "/usr/bin/mount -t nfs -o ro,nosuid,nodev,noexec -- "
	for _, line := range []string{mount + "nas:/models /mnt/models", mount + "[fe80::1]:/a/b /srv/m", mount + "nas:/ /media/x.1", mount + "nas:/m /data/nas.1",
		"/usr/bin/mkdir -- /mnt/models"} {
		require.True(t, allowedBy(t, text, line), line)
	}
	for _, line := range []string{
		"/usr/bin/mount -t nfs -o rw -- nas:/m /mnt/m", "/usr/bin/mount -t ext4 -o ro,nosuid,nodev,noexec -- nas:/m /mnt/m", "/usr/bin/mount --bind /etc /mnt/m",
		mount + "nas:/m /etc", mount + "nas:/m /mnt", mount + "nas:/m /mnt/", mount + "nas:/m /mnt/..", mount + "nas:/m /mnt/../etc", mount + "nas:/m /mnt/x/../../etc",
		mount + "nas:/m /mnt/x /etc", mount + "nas:/m /mnt/x -o exec", mount + "nas:/m /mnt/deep/x", mount + "nas:/m /mnt/.x", mount + "nas /mnt/x",
		mount + "nas:/m /data/nas21", mount + "nas:/m /data/nas.1/x", "/usr/bin/mkdir -- /mnt/../etc/x", "/usr/bin/mkdir -- /mnt/a /etc/x", "/usr/bin/mkdir -- /data/nas.1",
		"/bin/sh -c id",
	} {
		require.False(t, allowedBy(t, text, line), line)
	}
}

func TestSudoersOfANarrowPolicy(t *testing.T) {
	t.Parallel()
	p := policy.Default(policy.Machine{})
	p.Shares = []string{"nas*.example:/models/*"}
	text := sudoers("kitt-agent", "/usr/bin/mount", "/usr/bin/mkdir", p, "own:/x")
	const mount = "/usr/bin/mount -t nfs -o ro,nosuid,nodev,noexec -- "
	for line, want := range map[string]bool{
		"nas1.example:/models/a/b /mnt/m": true, "own:/x /mnt/m": true, "own:/xy /mnt/m": false, "nas1xexample:/models/a /mnt/m": false,
		"nas.evil:/x.example:/models/a /mnt/m": false, "evil:/models/a /mnt/m": false, "nas.example:/models/a /mnt/x /mnt/y": false,
	} {
		require.Equal(t, want, allowedBy(t, text, mount+line), line)
	}
	p.Shares = []string{}
	require.NotContains(t, sudoers("kitt-agent", "/usr/bin/mount", "/usr/bin/mkdir", p, ""), "NOPASSWD")
	for _, odd := range []string{"a b:/c", "a[]:/c", `a\:/c`, "a^:/c", "a\"b:/c", "a#b:/c", "a!b:/c"} {
		require.False(t, allowedBy(t, sudoers("kitt-agent", "/usr/bin/mount", "/usr/bin/mkdir", p, odd), mount+odd+" /mnt/m"), odd)
	}
}

func TestSystemUserTakesRoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("server_url: http://127.0.0.1:1\n")
	printed := m.run("service", "install", "--system-user", "--print")
	require.Zero(t, printed.code, printed.err)
	require.Contains(t, printed.out, "User=kitt-agent\n")
	require.Contains(t, printed.out, "# kitt-agent ALL=(root) NOPASSWD: ")
	require.Equal(t, exitUsage, m.run("service", "install", "--system-user", "--user").code)
	require.Equal(t, exitUsage, m.run("service", "install", "--system-user", "--run-as", "x").code)
	if os.Geteuid() != 0 {
		require.Contains(t, m.run("service", "install", "--system-user").err, "which takes root")
	}
}
