package rules_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/rules"
)

func TestRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		rule      func(string) error
		good, bad []string
	}{
		{"name", rules.Name, []string{"gpu-1", "ü 1"}, []string{"", " ", "a/b"}},
		{"token", rules.Token, []string{"", "!~"}, []string{"a b", "ä", "a\n", "\x7f"}},
		{"host", rules.Host, []string{"gpu.example", "10.0.0.7", "::1", "fe80::1%eth0"}, []string{"", "a:1", "http://a", "a b", "[::1]"}},
		{"path", rules.Path, []string{"~", "~/m", "/m", "/m/ü"}, []string{"", "m", "~me/m", "/", "//", "/a/..", "/a\nb"}},
		{"share", rules.Share, []string{"nas:/m", "10.0.0.7:/"}, []string{"", "nas", "nas:m", ":/m", "-o:/m", "nas:/a b", "nas:/a\u00a0b"}},
		{"image", rules.Image, []string{"kitt", "kitt:latest", "Registry.example:5000/kitt@sha256:" + strings.Repeat("a", 64)},
			[]string{"", "Registry.example/KITT:Latest", "kitt:", "-x", "../kitt", "-h.example/kitt", "a b", strings.Repeat("a", 513)}},
		{"pattern", rules.ImagePattern, []string{"kitt*", "[a-b]x"}, []string{"", "["}},
	} {
		for _, value := range tt.good {
			require.NoError(t, tt.rule(value), "%s %q", tt.name, value)
		}
		for _, value := range tt.bad {
			require.Error(t, tt.rule(value), "%s %q", tt.name, value)
		}
	}
}
