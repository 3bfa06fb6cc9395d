package modelcopy

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
