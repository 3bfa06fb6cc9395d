package modelcopy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/xxh3"
)

// A hash is an XXH3-128 of a piece, or of the hashes of pieces.
type hash [16]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(text string) (h hash, ok bool) {
	if len(text) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil
}

// joinHashes returns a file's hash: that of its only piece, or the XXH3-128 of
// the hashes of its pieces.
func joinHashes(all []hash) hash {
	if len(all) == 1 {
		return all[0]
	}
	h := xxh3.New()
	for _, one := range all {
		_, _ = h.Write(one[:]) // cannot fail
	}
	return h.Sum128().Bytes()
}

// modelHash is the hash of a whole model: of its files' paths, sizes and hashes.
// It is empty if a file was not read.
func modelHash(files []*fileCopy) string {
	h := xxh3.New()
	for _, f := range files {
		if f.cloned {
			return ""
		}
		fmt.Fprintf(h, "%q %d %s\n", f.path, f.size, f.sum()) // cannot fail
	}
	return "xxh3-128:" + hash(h.Sum128().Bytes()).String()
}

// Bounds of a piece in bytes. A piece is hashed, kept or copied again as a unit.
// Its size is a power of two.
const (
	MinPiece = 16 << 10
	MaxPiece = 4 << 20
)

// usualWorkers is a number of workers for which a piece is never too large, so that
// machines with fewer of them come to the same hash of the same model.
const usualWorkers = 16

// pieceFor returns the size of a model's pieces: small enough that the pieces
// which all workers lose when they are killed are at most a fortieth of the model.
func pieceFor(bytes int64, workers int) int64 {
	workers = max(workers, usualWorkers)
	piece := int64(MinPiece)
	for piece < MaxPiece && piece*2*int64(workers)*40 <= bytes {
		piece *= 2
	}
	return piece
}

// pieces returns how many pieces a file has.
func pieces(size, piece int64) int { return int((size + piece - 1) / piece) }

// A FileHasher hashes files as Copy does, in pieces of the size Piece.
type FileHasher struct {
	Root     *os.Root
	Piece    int64       // from MinPiece to MaxPiece
	Progress func(int64) // gets the bytes of each piece once it is read

	buffer []byte
}

// Hash returns the hash and the size of the file at rel below Root, which it
// reads completely.
func (h *FileHasher) Hash(ctx context.Context, rel string) (sum string, size int64, err error) {
	file, err := h.Root.Open(rel)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return "", 0, err
	}
	if h.buffer == nil {
		h.buffer = make([]byte, directBlock)
	}
	size = info.Size()
	hashes := make([]hash, 0, pieces(size, h.Piece))
	for off := int64(0); off < size; off += h.Piece {
		piece := xxh3.New()
		part := io.NewSectionReader(file, off, min(h.Piece, size-off))
		n, err := io.CopyBuffer(piece, withContext(ctx, part), h.buffer)
		if err != nil {
			return "", 0, err
		}
		h.Progress(n)
		hashes = append(hashes, piece.Sum128().Bytes())
	}
	return joinHashes(hashes).String(), size, nil
}

// withContext returns a reader of r that ends when ctx is done.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
