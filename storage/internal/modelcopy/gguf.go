package modelcopy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// ggmlTypes are the block lengths of ggml's tensor types, in elements and bytes
// (the type_traits table in ggml.c).
var ggmlTypes = map[uint32][2]uint64{
	0: {1, 4}, 1: {1, 2}, 2: {32, 18}, 3: {32, 20}, 6: {32, 22}, 7: {32, 24}, 8: {32, 34}, 9: {32, 36},
	10: {256, 84}, 11: {256, 110}, 12: {256, 144}, 13: {256, 176}, 14: {256, 210}, 15: {256, 292},
	16: {256, 66}, 17: {256, 74}, 18: {256, 98}, 19: {256, 50}, 20: {32, 18}, 21: {256, 110},
	22: {256, 82}, 23: {256, 136}, 24: {1, 1}, 25: {1, 2}, 26: {1, 4}, 27: {1, 8}, 28: {1, 8},
	29: {256, 56}, 30: {1, 2}, 34: {256, 54}, 35: {256, 66}, 39: {32, 17},
}

// checkGGUF reads a GGUF header (versions 2 and 3, little-endian): key-value
// pairs, then a table of tensors with offsets from the end of the header. The
// file must reach to the end of the last tensor.
func checkGGUF(r io.ReaderAt, size int64) error {
	g := &ggufReader{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10), left: uint64(size)}
	need, err := g.length()
	switch {
	case errors.Is(err, errNoHeader):
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errTruncated
	case err != nil:
		return err
	case need > uint64(size):
		return errTruncated
	}
	return nil
}

var errNoHeader = errors.New("not a GGUF header")

// A ggufReader reads values until the first error, which it keeps.
type ggufReader struct {
	r    *bufio.Reader
	left uint64 // bytes of the file not yet read
	pos  uint64
	err  error
}

const (
	maxGGUFItems  = 1 << 20 // of pairs, and of tensors
	ggufAlignment = 32
)

func (g *ggufReader) bytes(p []byte) {
	if g.err != nil {
		clear(p)
		return
	}
	n, err := io.ReadFull(g.r, p)
	g.pos += uint64(n)
	g.left -= uint64(n)
	g.err = err
}

func (g *ggufReader) u32() uint32 {
	var p [4]byte
	g.bytes(p[:])
	return binary.LittleEndian.Uint32(p[:])
}

func (g *ggufReader) u64() uint64 {
	var p [8]byte
	g.bytes(p[:])
	return binary.LittleEndian.Uint64(p[:])
}

// skip skips n bytes. Beyond the file's end it fails as for a truncated file.
func (g *ggufReader) skip(n uint64) {
	if g.err != nil {
		return
	}
	if n > g.left {
		g.err = io.ErrUnexpectedEOF
		return
	}
	for n > 0 {
		step, err := g.r.Discard(int(min(n, 1<<30)))
		n -= uint64(step)
		g.pos += uint64(step)
		g.left -= uint64(step)
		if err != nil {
			g.err = err
			return
		}
	}
}

// text reads a string. It returns only short ones.
func (g *ggufReader) text() string {
	n := g.u64()
	if g.err == nil && n > 1<<40 {
		g.err = errNoHeader
	}
	if n > 256 {
		g.skip(n)
		return ""
	}
	p := make([]byte, n)
	g.bytes(p)
	return string(p)
}

// ggufSizes are the sizes of values by their type; 8 is a string, 9 an array.
var ggufSizes = [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

func (g *ggufReader) value(kind uint32) {
	switch {
	case g.err != nil:
	case kind == 8:
		g.text()
	case kind == 9:
		element, n := g.u32(), g.u64()
		switch {
		case g.err != nil:
		case element == 8:
			for ; n > 0 && g.err == nil; n-- {
				g.text()
			}
		case element < uint32(len(ggufSizes)) && element != 9 && n < 1<<40:
			g.skip(n * ggufSizes[element])
		default:
			g.err = errNoHeader
		}
	case kind < uint32(len(ggufSizes)):
		g.skip(ggufSizes[kind])
	default:
		g.err = errNoHeader
	}
}

// length returns the minimum length of the file.
func (g *ggufReader) length() (uint64, error) {
	var magic [4]byte
	g.bytes(magic[:])
	version, tensors, pairs := g.u32(), g.u64(), g.u64()
	if g.err != nil || string(magic[:]) != "GGUF" || version < 2 || version > 3 ||
		tensors > maxGGUFItems || pairs > maxGGUFItems {
		return 0, errNoHeader
	}
	alignment := uint64(ggufAlignment)
	for range pairs {
		key, kind := g.text(), g.u32()
		if key == "general.alignment" && kind == 4 {
			alignment = uint64(g.u32())
		} else {
			g.value(kind)
		}
		if g.err != nil {
			return 0, g.err
		}
	}
	var end uint64
	for range tensors {
		tensorEnd, err := g.tensorEnd()
		if err != nil {
			return 0, err
		}
		end = max(end, tensorEnd)
	}
	if alignment == 0 || alignment > 1<<20 {
		return 0, errNoHeader
	}
	return (g.pos+alignment-1)/alignment*alignment + end, nil
}

// tensorEnd reads an entry of the tensor table and returns where the tensor ends,
// relative to the header's end.
func (g *ggufReader) tensorEnd() (uint64, error) {
	g.text()
	dims := g.u32()
	if g.err == nil && dims > 8 {
		return 0, errNoHeader
	}
	elements := uint64(1)
	for range dims {
		n := g.u64()
		if n != 0 && elements > (1<<50)/n {
			return 0, errNoHeader
		}
		elements *= n
	}
	block := ggmlTypes[g.u32()] // zero for an unknown type
	offset := g.u64()
	if g.err != nil {
		return 0, g.err
	}
	if offset > 1<<60 {
		return 0, errNoHeader
	}
	if block[0] > 0 {
		offset += elements / block[0] * block[1]
	}
	return offset, nil
}
