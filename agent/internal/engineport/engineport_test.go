package engineport

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestFindOnThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no %s here: %v", address, err)
			continue
		}
		port := l.Addr().(*net.TCPAddr).Port
		h, err := Find(os.DirFS("/"), port)
		require.NoError(t, err)
		require.NotNil(t, h, address)
		require.Equal(t, os.Getpid(), h.PID)
		require.Equal(t, os.Getuid(), h.UID)
		require.Equal(t, filepath.Base(os.Args[0]), filepath.Base(h.Program))
		require.False(t, h.IsOllama())
		require.Contains(t, h.String(), "process ")
		require.NoError(t, l.Close())
		h, err = Find(os.DirFS("/"), port)
		require.NoError(t, err)
		require.Nil(t, h)
	}
}

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:2CAA 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
`

// machine is a file tree of text files, whose links are files too.
type machine struct{ fstest.MapFS }

func (m machine) ReadLink(name string) (string, error) {
	f, ok := m.MapFS[name]
	if !ok {
		return "", fs.ErrNotExist
	}
	return string(f.Data), nil
}

func (m machine) Lstat(name string) (fs.FileInfo, error) { return m.Stat(name) }

func TestOllamaIsKnown(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	status := file("Name:\tollama\nUid:\t998\t998\t998\t998\n")
	for name, tt := range map[string]struct {
		files  fstest.MapFS
		ollama bool
		pid    int
	}{
		"seen by its socket":                     {fstest.MapFS{"proc/7/fd/3": file("socket:[4711]"), "proc/7/comm": file("ollama\n"), "proc/7/exe": file("/usr/local/bin/ollama")}, true, 7},
		"after its update":                       {fstest.MapFS{"proc/7/fd/3": file("socket:[4711]"), "proc/7/comm": file("ollama\n"), "proc/7/exe": file("/usr/bin/ollama (deleted)")}, true, 7},
		"another user's":                         {fstest.MapFS{"proc/7/comm": file("ollama\n"), "proc/7/status": status}, true, 7},
		"a namesake":                             {fstest.MapFS{"proc/7/fd/3": file("socket:[4711]"), "proc/7/comm": file("ollama\n"), "proc/7/exe": file("/tmp/evil")}, false, 7},
		"another user's namesake of a third one": {fstest.MapFS{"proc/7/comm": file("ollama\n"), "proc/7/status": file("Uid:\t5\t5\t5\t5\n")}, false, 0},
		"nobody":                                 {fstest.MapFS{}, false, 0},
	} {
		tt.files["proc/net/tcp"] = file(table)
		h, err := Find(machine{tt.files}, 8000)
		require.NoError(t, err)
		require.Equal(t, 998, h.UID)
		require.Equal(t, tt.pid, h.PID, name)
		require.Equal(t, tt.ollama, h.IsOllama(), name)
		none, err := Find(machine{tt.files}, 11434)
		require.NoError(t, err)
		require.Nil(t, none, "a connection is no listener")
	}
	_, err := Find(machine{}, 8000)
	require.ErrorContains(t, err, "look for what listens on port 8000")
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for engine, want := range map[string]int{"vllm": 8000, "llama_cpp": 8081, "exllamav2": 8082, "ollama": 11434} {
		port, known := Default(engine)
		require.True(t, known)
		require.Equal(t, want, port)
	}
	_, known := Default("sglang")
	require.False(t, known)
}
