package systemd

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the files of expected output")

var (
	ofMachine = Service{
		Program: "/usr/local/bin/kitt-agent", Args: []string{"start"}, RunAs: "kitt", Home: "/home/kitt/.kitt",
		Path: []string{"/home/kitt/.local/bin", "/usr/bin", "/bin"},
	}
	ofUser = Service{
		Program: "/home/kitt/bin/kitt-agent", Args: []string{"start", "--config", "/etc/kitt/agent.yaml"}, Home: "/home/kitt/.kitt",
		Path: []string{"/usr/bin", "/bin"},
	}
	odd = Service{
		Program: "/opt/100% $kitt/kitt-agent", Args: []string{"start", "--config", `/etc/$HOME/a b\c;d.yaml`}, RunAs: "kitt",
		Home: "/srv/it's %h", Path: []string{"/usr/bin", `/opt/a b`},
	}
)

func TestUnitFiles(t *testing.T) {
	for name, service := range map[string]Service{"machine": ofMachine, "user": ofUser, "odd": odd} {
		got, err := service.File()
		require.NoError(t, err)
		path := filepath.Join("testdata", name+".service")
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), got)
		require.NoError(t, Check(got))
	}
}

// TestSystemdReadsTheUnitFiles has systemd's own program read them, with paths
// that exist in place of those of the golden files.
func TestSystemdReadsTheUnitFiles(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("KITT_TEST_SYSTEMD") == "1" {
			require.NoError(t, err, "KITT_TEST_SYSTEMD=1 asks for systemd-analyze")
		}
		t.Skip("no systemd-analyze on this machine (package systemd): the unit files are not checked by systemd")
	}
	for name, service := range map[string]Service{"machine": ofMachine, "user": ofUser, "odd": odd} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			service.Program = filepath.Join(dir, filepath.Base(filepath.Dir(service.Program)), "kitt-agent")
			require.NoError(t, os.MkdirAll(filepath.Dir(service.Program), 0o755))
			require.NoError(t, os.WriteFile(service.Program, []byte("#!/bin/sh\n"), 0o755))
			if service.RunAs != "" {
				service.RunAs = "root"
			}
			text, err := service.File()
			require.NoError(t, err)
			path := filepath.Join(dir, "kitt-agent.service")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
			args := []string{"verify", "--man=no", path}
			if service.RunAs == "" {
				args = append([]string{"--user"}, args...)
			}
			cmd := exec.Command(analyze, args...)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), "kitt-agent.service", "no word about ours")
		})
	}
}

func TestUnitFileOfNonsense(t *testing.T) {
	for _, change := range []func(*Service){
		func(s *Service) { s.Program = "kitt-agent" },
		func(s *Service) { s.Program = `/opt/"kitt"/kitt-agent` },
		func(s *Service) { s.Home = "~/.kitt" },
		func(s *Service) { s.Home = "/x\nUser=root" },
		func(s *Service) { s.RunAs = "x\nUser=root" },
		func(s *Service) { s.Args = []string{"start", "\x1b"} },
	} {
		service := ofMachine
		change(&service)
		_, err := service.File()
		require.Error(t, err)
	}
}

func TestCheck(t *testing.T) {
	ours, err := ofMachine.File()
	require.NoError(t, err)
	require.NoError(t, Check(ours))
	require.ErrorIs(t, Check(strings.Replace(ours, "RestartSec=10s", "RestartSec=1s", 1)), ErrEdited)
	require.ErrorIs(t, Check("[Unit]\nDescription=KITT Agent\n"), ErrForeign)
	require.ErrorIs(t, Check(""), ErrForeign)
}

// FuzzWords checks that words that are quoted are the same words again.
func FuzzWords(f *testing.F) {
	for _, word := range []string{"", "a b", `a"b\c`, "100%", "%%h", "$HOME", "it's", `\`, `"`, ";"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		require.Equal(t, []string{"start", word, "end"}, splitWords("start "+quoteWord(word, false)+" end"))
	})
}

// FuzzRead checks that what File writes Read reads, and that nothing makes it
// panic.
func FuzzRead(f *testing.F) {
	f.Add("/usr/bin/kitt-agent", "/etc/kitt/agent.yaml", "/home/kitt/.kitt")
	f.Add("/100%/kitt-agent", `/a "b"\c/$HOME`, "/it's %h")
	f.Fuzz(func(t *testing.T, program, config, home string) {
		want := Service{Program: program, Args: []string{"start", "--config", config}, Home: home, RunAs: "kitt"}
		text, err := want.File()
		if err != nil {
			Read(program + config + home)
			return
		}
		require.Equal(t, want, Read(text))
	})
}
