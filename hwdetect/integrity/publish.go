package integrity

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	zipped    = ".gz"
	zipAbove  = 1 << 20      // bytes of samples from which telemetry is compressed
	notOurs   = ".benchmark" // what a benchmark's file of one of our names is called
	maxCopied = MaxSampleFile
)

// Publish makes [TelemetryFile] of the samples in dir, once a recording has ended, and
// copies it and the report to results, under the same names. What a benchmark wrote there
// under such a name is set aside, with .benchmark after its name. Publish can be repeated
// after a crash. Without a recording in dir it does nothing.
func Publish(dir, results string) error {
	if !base.Exists(filepath.Join(dir, ReportFile)) {
		return nil
	}
	if err := finishSamples(dir); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	info, err := os.Lstat(results)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", results)
	}
	var errs []error
	for _, name := range []string{ReportFile, TelemetryFile, TelemetryFile + zipped} {
		errs = append(errs, publishFile(filepath.Join(dir, name), filepath.Join(results, name)))
	}
	return errors.Join(errs...)
}

// finishSamples makes the telemetry file of the samples file, if there is one.
func finishSamples(dir string) error {
	from := filepath.Join(dir, SamplesFile)
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Size() <= zipAbove:
		return os.Rename(from, filepath.Join(dir, TelemetryFile))
	}
	err = replace(filepath.Join(dir, TelemetryFile+zipped), from, func(to io.Writer, samples io.Reader) error {
		z := gzip.NewWriter(to)
		_, err := io.Copy(z, samples)
		return errors.Join(err, z.Close())
	})
	if err != nil {
		return err
	}
	return os.Remove(from)
}

// publishFile copies a file of ours. A file of that name that we did not write is set
// aside.
func publishFile(from, to string) error {
	if info, err := os.Lstat(to); err == nil && !info.Mode().IsRegular() || err == nil && !base.Exists(from) {
		if err := os.Rename(to, to+notOurs); err != nil {
			return fmt.Errorf("set aside what the benchmark wrote: %w", err)
		}
	}
	err := replace(to, from, func(to io.Writer, from io.Reader) error {
		_, err := io.Copy(to, from)
		return err
	})
	return ignoreMissing(err)
}

// replace writes the file at path in one step, with what write makes of the file from.
func replace(path, from string, write func(to io.Writer, from io.Reader) error) error {
	in, err := base.OpenRegular(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(path,
		renameio.WithPermissions(0o600), renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if err := write(out, io.LimitReader(in, maxCopied)); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
