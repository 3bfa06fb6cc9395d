package modelset

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
)

// Bounds of an index.
const (
	MaxIndex  = 64 << 20 // bytes
	maxShards = 10_000
)

// ErrIndex says that a file is not an index of shards, or is damaged. It says
// nothing about which files a model has.
var ErrIndex = errors.New("not an index of shards")

// IsIndex reports whether a file of that name lists the shards of a model, as
// model.safetensors.index.json does.
func IsIndex(name string) bool { return strings.HasSuffix(name, ".index.json") }

// ReadIndex returns the names, sorted, of the files that an index lists: the values
// of its weight_map. They are relative to the index and never lead out of its
// directory.
func ReadIndex(r io.Reader) ([]string, error) {
	limited := &io.LimitedReader{R: r, N: MaxIndex}
	names, err := readIndex(json.NewDecoder(limited))
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || limited.N == 0 {
		return nil, ErrIndex
	}
	return names, err
}

func readIndex(dec *json.Decoder) ([]string, error) {
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	var names []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if key != "weight_map" {
			var ignored json.RawMessage
			if err := dec.Decode(&ignored); err != nil {
				return nil, err
			}
			continue
		}
		if names, err = readWeightMap(dec); err != nil {
			return nil, err
		}
	}
	return names, expect(dec, json.Delim('}'))
}

func readWeightMap(dec *json.Decoder) ([]string, error) {
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for dec.More() {
		if _, err := dec.Token(); err != nil {
			return nil, err
		}
		value, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := value.(string)
		if !ok || len(names) > maxShards {
			return nil, ErrIndex
		}
		if name != "" && !path.IsAbs(name) && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../") {
			names[name] = true
		}
	}
	return sorted(names), expect(dec, json.Delim('}'))
}

func expect(dec *json.Decoder, want json.Token) error {
	got, err := dec.Token()
	if err == nil && got != want {
		err = ErrIndex
	}
	return err
}

// Sizes of the pointer files that git-lfs puts in place of large files, in bytes:
// 125 and the digits of the file's size. One with extensions, which are rare, is
// larger (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
const (
	MinPointer = 120
	MaxPointer = 200
)

const pointerStart = "version https://git-lfs.github.com/spec/"

// IsPointer reports whether a file that begins with head is a pointer of git-lfs.
// PointerHead bytes are enough.
func IsPointer(head []byte) bool { return bytes.HasPrefix(head, []byte(pointerStart)) }

// PointerHead is how many bytes of a file IsPointer needs.
const PointerHead = len(pointerStart)
