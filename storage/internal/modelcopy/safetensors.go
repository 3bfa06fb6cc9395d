package modelcopy

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
)

// Some formats of model files give the file's length in their header. A header
// that makes no sense proves nothing. Only a valid header that disagrees with the
// file's length is a fault.

// errTruncated says that a file doesn't have the length that its header gives.
var errTruncated = errors.New("it does not have the length that its header gives")

// checkLength compares a file's size with its header if its name is that of a
// format with such a header.
func checkLength(name string, r io.ReaderAt, size int64) error {
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".safetensors"):
		return checkSafetensors(r, size)
	case strings.HasSuffix(lower, ".gguf"):
		return checkGGUF(r, size)
	}
	return nil
}

// maxSafetensorsHeader is the limit that the format specifies, in bytes.
const maxSafetensorsHeader = 100_000_000

// checkSafetensors reads a safetensors header: its length in eight bytes, then
// JSON that gives each tensor's range in the rest of the file. The last tensor
// ends with the file.
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
	end, ok := lastTensor(io.NewSectionReader(r, 8, int64(length)))
	if ok && (end > math.MaxInt64-header || header+end != size) {
		return errTruncated
	}
	return nil
}

// lastTensor returns where the last tensor of a header ends, relative to the
// header's end. ok is false if the header makes no sense.
func lastTensor(header io.Reader) (end int64, ok bool) {
	dec := json.NewDecoder(header)
	if _, err := dec.Token(); err != nil { // the brace
		return 0, false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return 0, false
		}
		if name == "__metadata__" {
			var skipped json.RawMessage
			if dec.Decode(&skipped) != nil {
				return 0, false
			}
			continue
		}
		var tensor struct {
			Offsets []int64 `json:"data_offsets"`
		}
		if dec.Decode(&tensor) != nil || len(tensor.Offsets) != 2 ||
			tensor.Offsets[0] < 0 || tensor.Offsets[1] < tensor.Offsets[0] {
			return 0, false
		}
		end = max(end, tensor.Offsets[1])
	}
	_, err := dec.Token()
	return end, err == nil
}
