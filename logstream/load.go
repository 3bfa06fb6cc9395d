package logstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
)

// load reads the file from its beginning: it counts the records, finds where to
// go on, and cuts off what is no whole record at the end. What is no record in
// the middle was damaged on disk; it counts as one, so that the numbers of those
// behind it stay what they were.
func (l *Log) load(f *os.File) error {
	l.file = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no plain file")
	}
	var (
		r       = bufio.NewReaderSize(io.NewSectionReader(f, 0, info.Size()), 256<<10)
		pos     Position
		since   int    // lines at pos, which come again with what is fed from there
		shown   []byte // what was shown of a line that hasn't ended
		damaged int
	)
	for {
		line, err := readLine(r)
		if err == io.EOF || err == nil && !line.whole {
			break
		}
		if err != nil {
			return err
		}
		e, err := parseRecord(line.text)
		switch {
		case err != nil:
			damaged++
		case e.kind == final:
			var f Final
			if json.Unmarshal(e.text, &f) == nil {
				l.end, l.final, l.ended = &f, &f, true
			}
			l.size += line.length
			continue
		default:
			isNew := e.pos != pos
			pos = e.pos
			if pos.Stamp == 0 {
				l.offset = pos.Byte
			}
			if isNew {
				since = 0
			}
			switch e.kind {
			case Progress:
				shown = append([]byte{}, e.text...)
			case Output, Continued, Repeat:
				shown = nil
				l.lines.redraw.history.push(e.text, false)
				if !isNew {
					since++
				}
			}
		}
		if l.count%indexEvery == 0 {
			l.index = append(l.index, l.size)
		}
		l.count++
		l.size += line.length
	}
	l.lines.resume(pos, since, shown)
	l.settled = pos
	if damaged > 0 {
		l.log.Warn("log is damaged", "file", l.path, "lines", damaged)
	}
	torn := info.Size() - l.size
	if torn == 0 || l.readOnly {
		return nil
	}
	l.log.Warn("half-written end of a log cut off, as a crash leaves it", "file", l.path, "bytes", torn)
	return f.Truncate(l.size)
}

// fileLine is a line of the file.
type fileLine struct {
	text   []byte // without its end; valid until the next read
	length int64
	whole  bool // whether it has an end
}

// readLine reads a line, of which no more is kept than a record can have and one
// part more, by which it is known for none.
func readLine(r *bufio.Reader) (fileLine, error) {
	var line fileLine
	for {
		part, err := r.ReadSlice('\n')
		line.length += int64(len(part))
		switch {
		case line.text == nil:
			line.text = part
			if errors.Is(err, bufio.ErrBufferFull) {
				line.text = bytes.Clone(part) // the next read takes the buffer
			}
		case len(line.text) <= maxRecordLine:
			line.text = append(line.text, part...)
		}
		switch {
		case err == nil:
			line.whole = true
			line.text = bytes.TrimSuffix(line.text, []byte{'\n'})
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && line.length > 0:
			return line, nil
		default:
			return line, err
		}
	}
}
