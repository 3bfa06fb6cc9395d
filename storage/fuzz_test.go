package storage

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzPaths makes links of the fuzzer's choice below a root and looks for a way
// out of it.
func FuzzPaths(f *testing.F) {
	f.Add("a/b", "../..", "/etc", "a/b/c")
	f.Add("..", "b", ".", "x/../../y")
	f.Add("~/x", "ROOT/a", "ROOT/../out", "a//./b/")
	f.Add("/ROOT", "../ROOTx", "a", "a/a/a/a")
	f.Fuzz(func(t *testing.T, model, one, two, rel string) {
		top, err := filepath.EvalSymlinks(t.TempDir())
		require.NoError(t, err)
		dir := filepath.Join(top, "root")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(top, "out/b"), 0o755))
		place := strings.NewReplacer("ROOT", dir)
		_ = os.Symlink(place.Replace(one), filepath.Join(dir, "one")) // some texts cannot be links
		_ = os.Symlink(place.Replace(two), filepath.Join(dir, "a/two"))
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer func() { require.NoError(t, root.Close()) }()

		check := func(rel string) {
			at, err := resolveIn(root, []string{dir}, rel)
			if err != nil {
				return
			}
			require.True(t, at == "." || cleanRel(at), at)
			real, err := filepath.EvalSymlinks(filepath.Join(dir, at))
			require.NoError(t, err)
			require.Equal(t, filepath.Join(dir, at), real, "links are left in %q", at)
		}
		for _, p := range []string{rel, "one/" + rel, "a/two/" + rel, "one", "a/two"} {
			check(p)
		}
		name, err := parseModel(place.Replace(model), "/home/agent")
		if err != nil {
			return
		}
		paths, _ := name.candidates(filepath.Join(top, "dir"), dir, false)
		for _, p := range paths {
			require.True(t, cleanRel(p), "%q", p)
			check(p)
		}
	})
}

func FuzzStaysBelow(f *testing.F) {
	f.Add("../x", 1)
	f.Add("a/../../x", 1)
	f.Add("./../..", 2)
	f.Fuzz(func(t *testing.T, text string, depth int) {
		depth = min(max(depth, 0), 20)
		if !staysBelow(depth, text) {
			return
		}
		top := filepath.Join("/top", strings.Repeat("d/", depth))
		at := filepath.Join(top, text)
		require.True(t, at == "/top" || strings.HasPrefix(at, "/top/"), at)
	})
}

func FuzzFormats(f *testing.F) {
	f.Add([]byte("GGUF\x03\x00\x00\x00"))
	f.Add(gguf(40))
	f.Add(append([]byte{10, 0, 0, 0, 0, 0, 0, 0}, `{"a":{"data_offsets":[0,4]}}1234`...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"x.gguf", "x.safetensors"} {
			err := checkLength(name, bytes.NewReader(data), int64(len(data)))
			if err != nil {
				require.ErrorIs(t, err, errTruncated)
			}
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add([]byte(strings.Repeat("a", 64)+"  name\n"), "name")
	f.Add([]byte("SHA256 (x) = "+strings.Repeat("0", 64)), "")
	f.Add([]byte(`\`+strings.Repeat("0", 64)+`  a\nb`), "")
	f.Fuzz(func(t *testing.T, data []byte, of string) {
		for name := range parseSums(bytes.NewReader(data), of) {
			require.NotEmpty(t, name)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"v":1,"piece":65536}` + "\n" + `{"f":1,"p":"a","s":70000}` + "\n" + `{"f":1,"k":1,"h":"` + strings.Repeat("a", 32) + `"}` + "\n" + `{"f":1,"x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		piece, old, _ := readJournal(bytes.NewReader(data))
		if piece == 0 {
			require.Empty(t, old)
		}
		for _, file := range old {
			for at := range file.pieces {
				require.GreaterOrEqual(t, at, 0)
				require.Less(t, int64(at)*piece, file.size)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"path":"a/b","piece":65536}` + "\n" + `{"p":"x","k":1,"s":3}` + "\n"))
	f.Add([]byte(`{"version":1,"path":"../a","piece":65536}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(bytes.NewReader(data), func(it item) error {
			require.True(t, it.Path == "." || cleanRel(it.Path))
			return nil
		})
		if err == nil {
			require.True(t, cleanRel(m.Path))
			require.False(t, reserved(m.Path))
		}
	})
}

// gguf returns a file with one tensor of 8 F32, whose data has n bytes.
func gguf(n int) []byte {
	p := []byte("GGUF")
	u32 := func(v uint32) { p = binary.LittleEndian.AppendUint32(p, v) }
	u64 := func(v uint64) { p = binary.LittleEndian.AppendUint64(p, v) }
	text := func(s string) { u64(uint64(len(s))); p = append(p, s...) }
	u32(3)
	u64(1)
	u64(3)
	text("general.alignment")
	u32(4)
	u32(64)
	text("general.name")
	u32(8)
	text("model")
	text("tokens")
	u32(9)
	u32(8)
	u64(2)
	text("a")
	text("b")
	text("w")
	u32(1)
	u64(8)
	u32(0)
	u64(0)
	for len(p)%64 != 0 {
		p = append(p, 0)
	}
	return append(p, make([]byte, n)...)
}

func TestGGUFLength(t *testing.T) {
	t.Parallel()
	for n, fails := range map[int]bool{32: false, 40: false, 31: true, 0: true} {
		data := gguf(n)
		err := checkLength("m.gguf", bytes.NewReader(data), int64(len(data)))
		require.Equal(t, fails, err != nil, n)
	}
	head := gguf(0)[:60]
	require.ErrorIs(t, checkLength("m.gguf", bytes.NewReader(head), 60), errTruncated)
}

func FuzzRawText(f *testing.F) {
	f.Add("team/m")
	f.Add("a\nb\xff\xfe \u202e")
	f.Fuzz(func(t *testing.T, text string) {
		data, err := json.Marshal(rawText(text))
		require.NoError(t, err)
		var back rawText
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, rawText(text), back)
		line := oneLine(text)
		require.True(t, utf8.ValidString(line))
		require.False(t, strings.ContainsFunc(line, unicode.IsControl), "%q", line)
		require.Equal(t, line, oneLine(line), "once is enough")
	})
}

func FuzzClaim(f *testing.F) {
	f.Add([]byte(`{"path":"team/m","left":1}`))
	f.Add([]byte(`{"path":["Lg=="]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, ok := parseClaim(data); ok {
			require.True(t, cleanRel(c.rel()))
			require.False(t, reserved(c.rel()))
		}
	})
}
