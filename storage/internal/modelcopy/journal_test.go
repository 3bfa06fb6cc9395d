package modelcopy

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestJournalOfManyWorkers has many workers record pieces of many files, and reads
// all of them back.
func TestJournalOfManyWorkers(t *testing.T) {
	t.Parallel()
	const workers, perFile = 8, 100
	name := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(name, MinPiece)
	require.NoError(t, err)
	var running sync.WaitGroup
	for n := range workers {
		f := &fileCopy{entry: &entry{path: string(rune('a'+n)) + "\xff", stamp: stamp{size: perFile * MinPiece, mtime: 1, ctime: 2}}}
		running.Go(func() {
			for at := range perFile {
				if err := j.add(f, at, MinPiece/10, hash{byte(n), byte(at)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	require.NoError(t, j.close())
	require.NoError(t, j.close(), "twice")

	again, err := openJournal(name, MaxPiece)
	require.NoError(t, err)
	require.EqualValues(t, MinPiece, again.piece)
	require.Len(t, again.old, workers)
	for n := range workers {
		had := again.had(&entry{path: string(rune('a'+n)) + "\xff", stamp: stamp{size: perFile * MinPiece, mtime: 1, ctime: 2}})
		require.NotNil(t, had)
		require.Len(t, had.pieces, perFile)
		require.Equal(t, hash{byte(n), 7}, had.pieces[7])
	}
	f := &fileCopy{entry: &entry{path: "a\xff"}, number: 1}
	require.NoError(t, again.invalidate(f))
	require.NoError(t, again.close())

	third, err := openJournal(name, MaxPiece)
	require.NoError(t, err)
	require.Len(t, third.old, workers-1)
	require.NoError(t, third.close())
}

// TestJournalThatCannotBeWritten expects an error from the piece whose record is
// lost, and from all later ones.
func TestJournalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	j, err := openJournal(filepath.Join(t.TempDir(), "journal"), MinPiece)
	require.NoError(t, err)
	require.NoError(t, j.file.Close())
	f := &fileCopy{entry: &entry{path: "a", stamp: stamp{size: 2 * MinPiece}}}
	require.ErrorIs(t, j.add(f, 0, MinPiece, hash{}), os.ErrClosed)
	require.ErrorIs(t, j.add(f, 1, MinPiece, hash{}), os.ErrClosed)
}

// TestJournalWritesWithoutItsLock has a worker whose write hangs: the others still
// record their pieces, and all records arrive once it returns.
func TestJournalWritesWithoutItsLock(t *testing.T) {
	t.Parallel()
	j, err := openJournal(filepath.Join(t.TempDir(), "journal"), MinPiece)
	require.NoError(t, err)
	require.NoError(t, j.file.Close())
	out, in, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()
	j.file = in
	full := make([]byte, 1<<20) // more than a pipe holds
	hung := make(chan error)
	reached := make(chan struct{})
	go func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.lines = full
		close(reached)
		hung <- j.flushLocked()
	}()
	<-reached // adding waits for the mutex, which the flush releases to write

	f := &fileCopy{entry: &entry{path: "a", stamp: stamp{size: 2 * MinPiece}}}
	require.NoError(t, j.add(f, 0, MinPiece, hash{1}))
	require.NoError(t, j.add(f, 1, MinPiece, hash{2}))
	got := make(chan []byte)
	go func() {
		data, err := io.ReadAll(out)
		if err != nil {
			t.Error(err)
		}
		got <- data
	}()
	require.NoError(t, <-hung)
	require.NoError(t, j.close())
	lines := strings.TrimLeft(string(<-got), "\x00")
	require.Equal(t, `{"f":1,"p":"a","s":32768}`+"\n"+
		`{"f":1,"h":"01000000000000000000000000000000"}`+"\n"+
		`{"f":1,"k":1,"h":"02000000000000000000000000000000"}`+"\n", lines)
}
