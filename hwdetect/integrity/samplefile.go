package integrity

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
)

// MaxSampleFile is the longest sample file, in bytes: 10 hours of one sample per
// second for eight GPUs need about 55 MB.
const MaxSampleFile = 128 << 20

// ErrSampleFileFull is matched by the error of a [SampleFile] that holds
// [MaxSampleFile] bytes.
var ErrSampleFileFull = errors.New("the sample file has reached its largest size")

// A SampleFile appends samples to a file in the format of `nvidia-smi
// --format=csv,nounits`, with one row per GPU. The first columns are nvidia-smi's;
// those named host.* follow. Times are UTC. Its methods must not be called
// concurrently.
//
// One sample is one write. It is not fsynced: it survives the end of the program, but
// not always a power cut. Readers skip what a power cut left.
type SampleFile struct {
	f     *os.File
	table table
	size  int64
	buf   []byte
}

// OpenSampleFile opens the file at path and creates it if there is none. A last line
// that was cut off is removed. The error says so if another kind of file is there.
func OpenSampleFile(path string) (*SampleFile, error) {
	// O_NONBLOCK: opening a named pipe must not wait for its other end.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	s := &SampleFile{f: f}
	if err := s.continueFile(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open sample file %s: %w", path, err)
	}
	return s, nil
}

// continueFile brings the file to where the next sample can be appended.
func (s *SampleFile) continueFile() error {
	info, err := s.f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	}
	whole, err := wholeLines(s.f, info.Size())
	if err != nil {
		return err
	}
	if whole < info.Size() {
		if err := s.f.Truncate(whole); err != nil {
			return err
		}
	}
	if whole == 0 {
		s.table = newTable()
		n, err := s.f.WriteString(s.table.header())
		s.size = int64(n)
		return err
	}
	s.size = whole
	first, err := bufio.NewReader(io.NewSectionReader(s.f, 0, min(whole, maxHeader))).ReadString('\n')
	if err != nil {
		return errors.New("the first line does not name the columns")
	}
	s.table, err = parseTable(first)
	return err
}

// maxHeader is the longest first line, in bytes.
const maxHeader = 16 << 10

// wholeLines returns how many of the size bytes of r are whole lines. A last line
// that is longer than a row can be is no row, and is not looked at further.
func wholeLines(r io.ReaderAt, size int64) (int64, error) {
	from := max(size-maxHeader, 0)
	tail := make([]byte, size-from)
	if _, err := r.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n')
	if end < 0 && from > 0 {
		return 0, errors.New("it has lines that are too long for a sample")
	}
	return from + int64(end) + 1, nil
}

// Append appends one sample. After a write that failed halfway it removes the part.
// The error matches [ErrSampleFileFull] if the file has no room left.
func (s *SampleFile) Append(sample Sample) error {
	s.buf = s.table.append(s.buf[:0], &sample)
	if s.size+int64(len(s.buf)) > MaxSampleFile {
		return ErrSampleFileFull
	}
	if _, err := s.f.Write(s.buf); err != nil {
		return errors.Join(err, s.f.Truncate(s.size))
	}
	s.size += int64(len(s.buf))
	return nil
}

// Close closes the file. It may be called twice.
func (s *SampleFile) Close() error {
	if err := s.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// ReadSamples calls each with the samples of the file at path, in their order. Rows
// of one time are one sample. It returns how many lines are no samples, for example
// because of a power cut. The sample is valid only during the call. It needs the
// memory of one sample. The error is that of each, or says why the file cannot be
// read; it matches [os.ErrNotExist] if there is none.
func ReadSamples(path string, each func(Sample) error) (bad int, err error) {
	f, err := base.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return DecodeSamples(f, each)
}

// DecodeSamples is ReadSamples for what r has, of which it reads at most
// [MaxSampleFile] bytes.
func DecodeSamples(r io.Reader, each func(Sample) error) (bad int, err error) {
	return readSamples(io.LimitReader(r, MaxSampleFile), each)
}

func readSamples(r io.Reader, each func(Sample) error) (bad int, err error) {
	lines := bufio.NewReaderSize(r, maxHeader)
	first, err := lines.ReadSlice('\n')
	if errors.Is(err, io.EOF) && len(first) == 0 {
		return 0, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read samples: first line: %w", err)
	}
	t, err := parseTable(string(first))
	if err != nil {
		return 0, fmt.Errorf("read samples: %w", err)
	}
	var current Sample
	flush := func() error {
		if current.Time.IsZero() {
			return nil
		}
		return each(current)
	}
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return bad, flush()
		}
		if err != nil {
			return bad, fmt.Errorf("read samples: %w", err)
		}
		var s Sample
		var g hwdetect.GPUTelemetry
		ofGPU, err := t.parse(line, &s, &g)
		if err != nil {
			bad++
			continue
		}
		if !current.Time.Equal(s.Time) || !sameMoment(current, s) || current.hasGPU(g.Index) || len(current.GPUs) == 0 || !ofGPU {
			if err := flush(); err != nil {
				return bad, err
			}
			s.GPUs, current = current.GPUs[:0], s
		}
		if ofGPU {
			current.GPUs = append(current.GPUs, g)
		}
	}
}

// sameMoment reports whether two rows have the same uptime.
func sameMoment(a, b Sample) bool {
	return a.Uptime == nil && b.Uptime == nil || a.Uptime != nil && b.Uptime != nil && *a.Uptime == *b.Uptime
}

func (s *Sample) hasGPU(index int) bool {
	return slices.ContainsFunc(s.GPUs, func(g hwdetect.GPUTelemetry) bool { return g.Index == index })
}

// readLine returns the next whole line. A line of more than maxRow bytes comes back
// shortened, which makes it a bad one; a last line without an end is not returned.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		if len(line) > maxRow {
			line = line[:0]
		}
		return line, err
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return nil, err
}
