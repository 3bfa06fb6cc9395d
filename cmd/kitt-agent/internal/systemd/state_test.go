package systemd

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseState(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	got := parseState("Result=success\nNRestarts=2\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=411\n"+
		"StatusText=idle\nUnitFileState=enabled\nFragmentPath=/etc/systemd/system/kitt-agent.service\n"+
		"StateChangeTimestampMonotonic=60000000\nMemoryCurrent=12345678\nNeedDaemonReload=yes\nNew=thing\nrubbish\n",
		now, 100*time.Second)
	require.Equal(t, State{
		Load: "loaded", Active: "active", Sub: "running", Enabled: "enabled", File: "/etc/systemd/system/kitt-agent.service",
		Since: now.Add(-40 * time.Second), PID: 411, Restarts: 2, MemoryBytes: 12345678, Text: "idle", Result: "success", NeedReload: true,
	}, got)
	require.True(t, got.Running())
	require.True(t, got.Installed())
}

func TestParseStateOfNoUnit(t *testing.T) {
	got := parseState("LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nMemoryCurrent=[not set]\n", time.Now(), time.Hour)
	require.False(t, got.Running())
	require.False(t, got.Installed())
	require.EqualValues(t, -1, got.MemoryBytes)
	require.Zero(t, got.Since)
}

// fakeProgram puts a shell script of that name first in PATH.
func fakeProgram(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestActive(t *testing.T) {
	fakeProgram(t, "systemctl", `[ "$*" = "--user show --property=LoadState,ActiveState,SubState,UnitFileState,FragmentPath,`+
		`StateChangeTimestampMonotonic,MainPID,NRestarts,MemoryCurrent,StatusText,Result,NeedDaemonReload -- kitt-agent.service" ] && `+
		`printf 'LoadState=loaded\nActiveState=active\nSubState=running\n'`)
	active, err := Unit{Name: "kitt-agent.service", User: true}.Active(t.Context())
	require.NoError(t, err)
	require.True(t, active)
}

func TestActiveWithoutSystemd(t *testing.T) {
	if booted() {
		t.Skip("systemd runs this machine")
	}
	active, err := Unit{Name: "kitt-agent.service"}.Active(t.Context())
	require.NoError(t, err)
	require.False(t, active)
	require.ErrorIs(t, Unit{Name: "kitt-agent.service"}.Restart(t.Context()), ErrNoSystemd)
}
