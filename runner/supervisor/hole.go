package supervisor

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// holeLeast is the size of a piece of zeros from which on it may be a hole, in bytes:
// less than the blocks that are freed.
const holeLeast = 4096

// hole returns how many bytes of the output are missing from offset on, where p was
// read, although gaps.json doesn't say so: the benchmark may have removed that file. It
// returns 0 if the file system tells no holes.
func hole(out *os.File, offset int64, p []byte) int64 {
	if len(p) < holeLeast {
		return 0
	}
	for _, b := range p[:holeLeast] {
		if b != 0 {
			return 0
		}
	}
	// The offset of the file itself is used by nobody.
	data, err := unix.Seek(int(out.Fd()), offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // there is a hole up to the end
		if info, err := out.Stat(); err == nil {
			return max(0, info.Size()-offset)
		}
		return 0
	case err != nil:
		return 0
	}
	return max(0, data-offset)
}

// sayNoFile says that the output of a run that is gone is missing altogether.
func (f *Follower) sayNoFile() {
	if f.file != nil || f.broken {
		return
	}
	file, err := f.dir.Open(OutputFile)
	if err == nil {
		_ = file.Close()
		return
	}
	if begun, _ := f.dir.Claimed(); begun && errors.Is(err, os.ErrNotExist) {
		f.broken = true
		f.Say("what the benchmark printed from byte %d on is missing: somebody removed the file %s", f.offset, OutputFile)
	}
}
