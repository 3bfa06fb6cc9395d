package results

import (
	"compress/gzip"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
)

// zipped is the suffix of a file that is compressed with gzip.
const zipped = ".gz"

// Samples calls each with the samples that were taken during the run, in their order.
// See [integrity.ReadSamples]. The error matches [fs.ErrNotExist] if there are none.
func (r *Run) Samples(each func(integrity.Sample) error) (bad int, err error) {
	if r.samples == "" {
		return 0, fmt.Errorf("samples of run %s: %w", r.ID, fs.ErrNotExist)
	}
	if !strings.HasSuffix(r.samples, zipped) {
		return integrity.ReadSamples(r.samples, each)
	}
	f, err := base.OpenRegular(r.samples)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.samples, err)
	}
	return integrity.DecodeSamples(z, each)
}
