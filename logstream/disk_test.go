package logstream

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fullDisk is a file on a disk that has room for so many bytes of it. What does
// not fit is written in part, as a disk does.
type fullDisk struct {
	file
	room atomic.Int64
}

func (d *fullDisk) WriteAt(p []byte, at int64) (int, error) {
	n := min(int64(len(p)), max(d.room.Load()-at, 0))
	if n, err := d.file.WriteAt(p[:n], at); err != nil {
		return n, err
	}
	if n < int64(len(p)) {
		return int(n), &fs.PathError{Op: "write", Path: "log", Err: syscall.ENOSPC}
	}
	return len(p), nil
}

// onDiskWith puts l on a disk with so much room.
func onDiskWith(l *Log, room int64) *fullDisk {
	d := &fullDisk{file: l.file}
	d.room.Store(room)
	l.file = d
	return d
}

// TestWhatAFullDiskRefusedIsSaidExactly fills the disk and makes room again, any
// number of times, with crashes between: each line is there once and in order,
// or is counted by the gap that stands in its place.
func TestWhatAFullDiskRefusedIsSaidExactly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "log")
		defer os.Remove(path)
		l, err := Open(path, Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		disk := onDiskWith(l, 1<<20)
		width := len(numbered(0))
		total := 0 // lines printed
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				disk.room.Store(rapid.Int64Range(0, l.size+300).Draw(t, "room"))
			case 1:
				disk.room.Store(1 << 20)
			case 2: // a crash: what the disk refused is fed again
				require.NoError(t, l.Close())
				l, err = Open(path, Options{})
				require.NoError(t, err)
				disk = onDiskWith(l, disk.room.Load())
				total = int(l.Position().Byte) / width
			default:
				var text strings.Builder
				first := total
				for range rapid.IntRange(1, 5).Draw(t, "lines") {
					text.WriteString(numbered(total))
					total++
				}
				l.Append([]byte(text.String()), time.Time{}, Position{Byte: int64(first * width)})
			}
		}
		disk.room.Store(1 << 20)
		require.NoError(t, l.Finish(Final{}))
		next := 0
		for _, r := range all(t, l) {
			if r.Kind == Gap {
				n, err := strconv.Atoi(strings.Fields(r.Text)[0])
				require.NoError(t, err)
				next += n
				continue
			}
			require.Equal(t, strings.TrimSuffix(numbered(next), "\n"), r.Text)
			next++
		}
		require.Equal(t, total, next)
	})
}

// TestACrashBehindAGapLosesNothingMore crashes when the disk had room for the gap
// but not for the line after it.
func TestACrashBehindAGapLosesNothingMore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	l.Append([]byte("one\n"), time.Time{}, Position{})
	disk := onDiskWith(l, 0)
	l.Append([]byte("two\n"), time.Time{}, Position{Byte: 4})
	disk.room.Store(l.size + 180)
	l.Append([]byte("three"+strings.Repeat("!", 200)+"\n"), time.Time{}, Position{Byte: 8})
	records := all(t, l)
	require.Len(t, records, 2)
	require.Equal(t, Gap, records[1].Kind)
	require.NoError(t, l.Close())
	l = open(t, path)
	require.Equal(t, Position{Byte: 8}, l.Position())
}

// TestTheEndOfALogIsTriedUntilThereIsRoom ends a job while the disk is full. Its
// last lines and its end come together, before a reader hears of the end, and after
// what is missing.
func TestTheEndOfALogIsTriedUntilThereIsRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := open(t, path)
		disk := onDiskWith(l, 80)
		l.Append([]byte("one\ntwo\n"), time.Time{}, Position{})
		require.ErrorIs(t, l.Flush(), syscall.ENOSPC)
		require.ErrorIs(t, l.Finish(Final{Status: "failed"}, "Error: Exit 1", "Benchmark failed"), syscall.ENOSPC)
		require.Equal(t, []string{"one"}, texts(all(t, l)))
		require.False(t, l.Finished())
		for room := range int64(400) { // never enough for all of it
			disk.room.Store(l.size + room)
			if l.Finish(Final{Status: "failed"}) == nil {
				break
			}
			require.NotContains(t, texts(all(t, l)), "Error: Exit 1")
		}
		require.True(t, l.Finished())
		require.NoError(t, l.Finish(Final{Status: "completed"}), "it has its end")
	})
	again := open(t, path)
	records := all(t, again)
	require.Len(t, records, 4)
	require.Equal(t, Gap, records[1].Kind)
	require.Contains(t, records[1].Text, "1 line is missing here")
	require.Equal(t, []string{"Error: Exit 1", "Benchmark failed"}, texts(records, Note))
	end, ok := again.Final()
	require.True(t, ok)
	require.Equal(t, "failed", end.Status)
}

// TestTheEndOfALogIsWrittenWithoutAnotherCall makes room for it later.
func TestTheEndOfALogIsWrittenWithoutAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		disk := onDiskWith(l, 0)
		require.ErrorIs(t, l.Finish(Final{Status: "failed"}, "Benchmark failed"), syscall.ENOSPC)
		disk.room.Store(1 << 20)
		time.Sleep(retryEvery)
		synctest.Wait()
		require.True(t, l.Finished())
		require.Equal(t, []string{"Benchmark failed"}, texts(all(t, l)))
	})
}

// TestAGapIsSaidWhileNothingIsPrinted makes room while the benchmark is silent.
func TestAGapIsSaidWhileNothingIsPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		l, err := Open(filepath.Join(t.TempDir(), "log"), Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
		require.NoError(t, err)
		defer l.Close()
		disk := onDiskWith(l, 0)
		for range 100 {
			l.Append([]byte("line\n"), time.Time{}, l.Position())
		}
		time.Sleep(time.Minute)
		disk.room.Store(1 << 20)
		time.Sleep(retryEvery)
		synctest.Wait()
		records := all(t, l)
		require.Len(t, records, 1)
		require.Contains(t, records[0].Text, "100 lines are missing here, printed from 2000-01-01T00:00:00 to 2000-01-01T00:00:00")
		require.EqualValues(t, 100, l.Refused())
		require.Equal(t, 2, strings.Count(said.String(), "\n"), "the first failure and the recovery: %s", &said)
	})
}

// TestALineWhoseStateWasRefusedIsNoRepeat: a reader that never got the state must
// get the line.
func TestALineWhoseStateWasRefusedIsNoRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		disk := onDiskWith(l, 0)
		l.Append([]byte("Loading"), time.Time{}, Position{})
		time.Sleep(showAfter + 100*time.Millisecond) // tried once, and not yet again
		disk.room.Store(1 << 20)
		l.Append([]byte("\n"), time.Time{}, Position{Byte: 7})
		require.Equal(t, []string{"Loading"}, texts(all(t, l), Output))
	})
}

// hungDisk is a file on a disk that hangs in a write until it is released.
type hungDisk struct {
	file
	begun   chan struct{}
	release chan struct{}
}

func (d *hungDisk) WriteAt(p []byte, at int64) (int, error) {
	close(d.begun)
	<-d.release
	return d.file.WriteAt(p, at)
}

// TestADiskThatHangsKeepsNobodyFromReading reads while a write is stuck.
func TestADiskThatHangsKeepsNobodyFromReading(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	l.Append([]byte("one\n"), time.Time{}, Position{})
	disk := &hungDisk{l.file, make(chan struct{}), make(chan struct{})}
	l.file = disk
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Append([]byte("two\n"), time.Time{}, Position{Byte: 4})
	}()
	<-disk.begun
	require.Equal(t, []string{"one"}, texts(all(t, l)))
	require.Equal(t, Position{Byte: 4}, l.Position())
	require.False(t, l.Finished())
	close(disk.release)
	<-done
	require.Equal(t, []string{"one", "two"}, texts(all(t, l)))
}

func TestReadingOnlyChangesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	_, err := Open(path, Options{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, path)

	l := open(t, path)
	l.Append([]byte("one\n"), time.Time{}, Position{})
	torn := "2026-11-23T16:18:40.000000000Z o 0.0.9 half wri"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(torn)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	other, err := Open(path, Options{ReadOnly: true})
	require.NoError(t, err)
	defer other.Close()
	other.Append([]byte("two\n"), time.Time{}, Position{})
	other.Note("three")
	require.ErrorIs(t, other.Finish(Final{}), fs.ErrPermission)
	r := other.Reader(0)
	records, err := r.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, texts(records))
	_, err = r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(text, []byte(torn)), "another program may be about to write the rest")
}

func TestDamageIsSaidToTheOperator(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	text := "garbage\n" + strings.Repeat("x", 2*maxRecordLine) + "\n" +
		"2026-11-23T16:18:40.000000000Z o 0.0.4 one\n2026-11-23T16:18:40.0"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	var said bytes.Buffer
	l, err := Open(path, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	require.NoError(t, err)
	defer l.Close()
	require.Contains(t, said.String(), "lines=2")
	require.Contains(t, said.String(), "bytes=21")
	records := all(t, l)
	require.Len(t, records, 3)
	require.Equal(t, []Kind{Gap, Gap, Output}, []Kind{records[0].Kind, records[1].Kind, records[2].Kind})
	require.Equal(t, Position{Byte: 4}, l.Position())
	require.Equal(t, time.Date(2026, 11, 23, 16, 18, 40, 0, time.UTC), records[2].Time)
}

func TestTimesThatNoRecordCanBearAreNow(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	for i, at := range []time.Time{time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), {}} {
		l.Append([]byte("x\n"), at, Position{Byte: int64(2 * i)})
	}
	for _, r := range all(t, l) {
		require.Equal(t, Output, r.Kind)
		require.WithinDuration(t, time.Now(), r.Time, time.Minute)
	}
}

// FuzzRecord reads back what a record's line says.
func FuzzRecord(f *testing.F) {
	f.Add(int64(1_700_000_000_123_456_789), byte('o'), int64(1), int64(2), int64(3), "text")
	f.Fuzz(func(t *testing.T, at int64, kind byte, stamp, count, byteAt int64, text string) {
		text = strings.NewReplacer("\n", "", "\r", "").Replace(strings.ToValidUTF8(text, ""))
		if len(text) > MaxLine {
			return
		}
		when, pos := time.Unix(0, at).UTC(), Position{stamp, count, byteAt}
		line := appendRecord(nil, appendStamp(nil, when), Kind(kind), pos, []byte(text))
		e, err := parseRecord(bytes.TrimSuffix(line, []byte{'\n'}))
		if !Kind(kind).valid() {
			require.Error(t, err)
			return
		}
		require.NoError(t, err, "%q", line)
		require.Equal(t, entry{when, Kind(kind), pos, []byte(text)}, entry{e.at, e.kind, e.pos, append([]byte{}, e.text...)})
	})
}

// FuzzParseRecord reads what may be in a damaged file.
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("2026-11-23T16:18:40.362683123Z o 0.0.1024 Loading model"))
	f.Add([]byte(fmt.Sprintf("9999-99-99T99:99:99.999999999Z %c 1.2.3 x", Output)))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseRecord(line)
		if err != nil {
			return
		}
		again, err := parseRecord(bytes.TrimSuffix(appendRecord(nil, appendStamp(nil, e.at), e.kind, e.pos, e.text), []byte{'\n'}))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}
