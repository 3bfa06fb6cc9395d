package storage

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
)

// Model files that say in their header how long they must be. A header that
// makes no sense says nothing; only one that does, and disagrees, is a fault.

// errTruncated says that a file is not as long as its header says.
var errTruncated = errors.New("it does not have the length that its header gives")

// checkLength holds a file against its header, if its name and content say that
// it is of a format that has one.
func checkLength(name string, r io.ReaderAt, size int64) error {
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".safetensors"):
		return checkSafetensors(r, size)
	case strings.HasSuffix(lower, ".gguf"):
		return checkGGUF(r, size)
	}
	return nil
}

// maxSafetensorsHeader is the limit that the format itself sets.
const maxSafetensorsHeader = 100_000_000

// checkSafetensors reads a safetensors header: eight bytes of length, then JSON
// that gives each tensor's place behind it. The last one ends with the file.
func checkSafetensors(r io.ReaderAt, size int64) error {
	var first [9]byte
	if _, err := r.ReadAt(first[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	length := binary.LittleEndian.Uint64(first[:8])
	if length < 2 || length > maxSafetensorsHeader || first[8] != '{' {
		return nil
	}
	header := 8 + int64(length)
	if header > size {
		return errTruncated
	}
	dec := json.NewDecoder(io.NewSectionReader(r, 8, int64(length)))
	if _, err := dec.Token(); err != nil { // the brace
		return nil
	}
	var last int64
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil
		}
		if name == "__metadata__" {
			var skipped json.RawMessage
			if dec.Decode(&skipped) != nil {
				return nil
			}
			continue
		}
		var tensor struct {
			Offsets []int64 `json:"data_offsets"`
		}
		if dec.Decode(&tensor) != nil || len(tensor.Offsets) != 2 ||
			tensor.Offsets[0] < 0 || tensor.Offsets[1] < tensor.Offsets[0] {
			return nil
		}
		last = max(last, tensor.Offsets[1])
	}
	if _, err := dec.Token(); err != nil {
		return nil
	}
	if last > math.MaxInt64-header || header+last != size {
		return errTruncated
	}
	return nil
}

// ggmlTypes are the block lengths, in elements and bytes, of the tensor types of
// ggml (the type_traits table in ggml.c).
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
	case errors.Is(err, errNoSense):
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

var errNoSense = errors.New("not a header")

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

// skip passes n bytes over; past the end means that the file was cut off.
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

// text reads a string, of which only short ones are returned.
func (g *ggufReader) text() string {
	n := g.u64()
	if g.err == nil && n > 1<<40 {
		g.err = errNoSense
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
			g.err = errNoSense
		}
	case kind < uint32(len(ggufSizes)):
		g.skip(ggufSizes[kind])
	default:
		g.err = errNoSense
	}
}

// length returns how long the file must at least be.
func (g *ggufReader) length() (uint64, error) {
	var magic [4]byte
	g.bytes(magic[:])
	version, tensors, pairs := g.u32(), g.u64(), g.u64()
	if g.err != nil || string(magic[:]) != "GGUF" || version < 2 || version > 3 ||
		tensors > maxGGUFItems || pairs > maxGGUFItems {
		return 0, errNoSense
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
		g.text()
		dims := g.u32()
		if g.err == nil && dims > 8 {
			return 0, errNoSense
		}
		elements := uint64(1)
		for range dims {
			n := g.u64()
			if n != 0 && elements > (1<<50)/n {
				return 0, errNoSense
			}
			elements *= n
		}
		block := ggmlTypes[g.u32()] // zero for a type that came later
		offset := g.u64()
		if g.err != nil {
			return 0, g.err
		}
		if offset > 1<<60 {
			return 0, errNoSense
		}
		if block[0] > 0 {
			offset += elements / block[0] * block[1]
		}
		end = max(end, offset)
	}
	if alignment == 0 || alignment > 1<<20 {
		return 0, errNoSense
	}
	return (g.pos+alignment-1)/alignment*alignment + end, nil
}
