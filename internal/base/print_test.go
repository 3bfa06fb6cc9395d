package base_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
)

func FuzzEscape(f *testing.F) {
	f.Add("team/m")
	f.Add("a\nb\xff\xfe \u202e")
	f.Fuzz(func(t *testing.T, text string) {
		line := base.Escape(text)
		require.True(t, utf8.ValidString(line))
		require.False(t, strings.ContainsFunc(line, unicode.IsControl), "%q", line)
		require.Equal(t, line, base.Escape(line), "escaping twice changes nothing")
	})
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 16 << 40: "16 TiB", 1<<63 - 1: "8 EiB"} {
		require.Equal(t, want, base.Size(n))
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, `"a", "b\n"`, base.Names("a", "b\n"))
	require.Empty(t, base.Names())
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{0: "0%", 2.84: "2.8%", 0.0123: "0.012%", 99.4: "99%", 99.6: "100%", 162: "162%", 981.4: "981%", -163: "-163%", 1e5: "100000%"} {
		require.Equal(t, want, base.Percent(value))
	}
}
