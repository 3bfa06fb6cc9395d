package engine

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F92 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0000000000000000 20 4 30 10 -1
`

func TestParseSockets(t *testing.T) {
	t.Parallel()
	require.Equal(t, []listener{{port: 8081, inode: "4242"}}, parseSockets(strings.NewReader(sockets)))
}

func FuzzParseSockets(f *testing.F) {
	f.Add(sockets)
	f.Add("0: :1F91 x 0A a b c d e f g")
	f.Fuzz(func(t *testing.T, table string) {
		for _, l := range parseSockets(strings.NewReader(table)) {
			require.True(t, l.port >= 0 && l.port <= 65535)
		}
	})
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "\n \n": "", "ollama version is 0.5.1\n": "0.5.1",
		"ggml_cuda_init: found 1\nversion: 4567 (abc)\nbuilt with cc\n": "4567 (abc)",
		"b4567\nmore": "b4567", "version: \x1b[31m9": "version: \uFFFD[31m9",
		"version: 1" + strings.Repeat("0", 200): "1" + strings.Repeat("0", 79) + "…",
	} {
		require.Equal(t, want, parseVersion(text), "%q", text)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("version: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		require.LessOrEqual(t, len([]rune(parseVersion(text))), maxVersion+1)
	})
}
