package base

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const sockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F92 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0000000000000000 20 4 30 10 -1
`

func TestListeners(t *testing.T) {
	t.Parallel()
	want := []Listener{{Port: 8081, UID: 1000, Inode: "4242"}}
	for _, table := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		found, err := Listeners(fstest.MapFS{table: {Data: []byte(sockets)}})
		require.NoError(t, err)
		require.Equal(t, want, found, "a connection is not a listener")
	}
	_, err := Listeners(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Listeners(fstest.MapFS{"proc/net/tcp": {Data: []byte(strings.Repeat("x", 1<<20))}})
	require.ErrorContains(t, err, "token too long")
}

func FuzzListeners(f *testing.F) {
	f.Add(sockets)
	f.Add("0: :1F91 x 0A a b c 1 f g")
	f.Fuzz(func(t *testing.T, table string) {
		found, _ := parseListeners(strings.NewReader(table))
		for _, l := range found {
			require.True(t, l.Port >= 0 && l.Port <= 65535)
			require.GreaterOrEqual(t, l.UID, 0)
			require.NotEmpty(t, l.Inode)
		}
	})
}
