package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

func resolveText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	c, warnings, err := Sources{Path: path, Getenv: func(name string) string { return map[string]string{"HOME": "/root"}[name] }}.Resolve()
	require.Empty(t, warnings)
	return c, err
}

func TestIntegritySettings(t *testing.T) {
	t.Parallel()
	c, err := resolveText(t, "")
	require.NoError(t, err)
	require.Equal(t, Integrity{
		Enabled: true, Interval: time.Second, OnInvalid: "report", WaitIdle: 2 * time.Minute, CoolLimit: 10 * time.Minute,
	}, c.Integrity)

	c, err = resolveText(t, `
integrity:
  enabled: false
  interval: 2s
  on_invalid: fail
  wait_idle: 0
  wait_cool: 50
  wait_cool_limit: 1h
  limits:
    sw_thermal: warning 2, invalid 10
    hw_thermal: invalid 0.5
    swap_in: never
`)
	require.NoError(t, err)
	require.Equal(t, Integrity{
		Interval: 2 * time.Second, OnInvalid: "fail", WaitCool: 50, CoolLimit: time.Hour,
		Limits: map[string]integrity.Limit{
			"sw_thermal": {Warning: new(2.0), Invalid: new(10.0)}, "hw_thermal": {Invalid: new(0.5)}, "swap_in": {},
		},
	}, c.Integrity)
	rules, err := integrity.SetLimits(integrity.DefaultRules(), c.Integrity.Limits)
	require.NoError(t, err, "each setting has its rule")
	require.NotEmpty(t, rules)
}

func TestBadIntegritySettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"on_invalid: explode":                         "it is none of these",
		"interval: 1ms":                               "it is out of range",
		"wait_cool: 5":                                "it is out of range",
		"wait_cool: NaN":                              "it is out of range",
		"wait_cool: cold":                             "it is not a number",
		"limits: {steal: 5}":                          `"5" is neither warning nor invalid`,
		"limits: {steal: warning}":                    "no number follows warning",
		"limits: {steal: warning NaN}":                "no number follows warning",
		"limits: {steal: 'warning 1, warning 2'}":     "warning is there twice",
		"limits: {steal: 'warning 5, invalid 1'}":     "the limit of a warning is above that of invalid",
		"limits: {steal: {warning: 5}}":               "integrity.limits.steal",
		"limits: {steal: 'warning 1, invalid 2, no'}": `"no" is neither`,
	} {
		_, err := resolveText(t, "integrity: {"+text+"}")
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzLimit(f *testing.F) {
	f.Add("warning 1, invalid 5")
	f.Add("never")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLimit(text)
		if err != nil {
			return
		}
		again, err := parseLimit(limitText(l))
		require.NoError(t, err)
		require.Equal(t, l, again)
	})
}
