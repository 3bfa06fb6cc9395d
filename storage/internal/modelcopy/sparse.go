package modelcopy

// write writes a block. It leaves out its holes if the file is sparse.
func (w *worker) write(block []byte, off int64) error {
	if !w.file.holes {
		_, err := w.dst.WriteAt(block, off)
		return err
	}
	for len(block) > 0 {
		hole := zeroRun(block)
		block, off = block[hole:], off+int64(hole)
		data := dataRun(block)
		if data > 0 {
			if _, err := w.dst.WriteAt(block[:data], off); err != nil {
				return err
			}
		}
		block, off = block[data:], off+int64(data)
	}
	return nil
}

// clearRange makes a range of the staged file a hole, or zeros where the file
// system has no holes.
func (w *worker) clearRange(off, n int64) error {
	if punchHole(w.dst, off, n) {
		return nil
	}
	for end := off + n; off < end; {
		block := w.c.zeroes[:min(int64(len(w.c.zeroes)), end-off)]
		if _, err := w.dst.WriteAt(block, off); err != nil {
			return err
		}
		off += int64(len(block))
	}
	return nil
}

// zeroRun returns the length of the zero blocks at the start of p, in bytes.
func zeroRun(p []byte) int {
	n := 0
	for n < len(p) && allZero(p[n:min(n+zeroBlock, len(p))]) {
		n = min(n+zeroBlock, len(p))
	}
	return n
}

// dataRun returns how many bytes precede the first zero block of p.
func dataRun(p []byte) int {
	n := 0
	for n < len(p) && !allZero(p[n:min(n+zeroBlock, len(p))]) {
		n = min(n+zeroBlock, len(p))
	}
	return n
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
