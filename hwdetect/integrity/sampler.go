package integrity

import (
	"context"
	"errors"
	"time"
)

// A sampler takes samples and appends them to a file. What the disk refuses is in the
// summary all the same.
type sampler struct {
	recorder *Recorder
	path     string
	summary  Summary

	file     *SampleFile
	refused  error     // why the file lacks samples; the first reason
	since    time.Time // of the first sample that it lacks
	newest   time.Time // reading of the GPUs
	silent   string    // why the GPUs have given no reading; empty if the last one is there
	quiet    time.Time // since when
	fileFull bool
}

// run takes samples until ctx is done.
func (s *sampler) run(ctx context.Context) {
	file, err := OpenSampleFile(s.path)
	if err != nil {
		s.refuse(err)
	}
	s.file = file
	defer func() {
		if s.file != nil {
			s.refuse(s.file.Close())
		}
	}()
	ticker := time.NewTicker(s.recorder.cfg.Interval)
	defer ticker.Stop()
	for {
		s.take(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// take takes one sample.
func (s *sampler) take(ctx context.Context) {
	r := s.recorder
	sample, err := r.Sample(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = s.dropOld(&sample)
	}
	switch {
	case err == nil:
		s.silent = ""
	case s.silent == "":
		s.silent, s.quiet = err.Error(), time.Now().Round(0)
		r.cfg.Logger.Debug("gpus not sampled", "err", err)
	}
	if sample.Time.IsZero() {
		return // nothing could be read
	}
	s.summary.Add(sample)
	if r.cfg.Sampled != nil {
		r.cfg.Sampled(sample)
	}
	if s.file == nil || s.fileFull {
		return
	}
	if err := s.file.Append(sample); err != nil {
		s.fileFull = errors.Is(err, ErrSampleFileFull)
		s.refuse(err)
	}
}

var errNoNewReading = errors.New("the GPUs have given no new reading")

// dropOld removes readings of the GPUs that an earlier sample had.
func (s *sampler) dropOld(sample *Sample) error {
	switch {
	case len(sample.GPUs) == 0 || sample.GPUTime.IsZero():
		return nil
	case !sample.GPUTime.After(s.newest):
		sample.GPUs = nil
		return errNoNewReading
	}
	s.newest = sample.GPUTime
	return nil
}

// refuse notes that the file lacks samples because of err.
func (s *sampler) refuse(err error) {
	if err == nil || s.refused != nil {
		return
	}
	s.refused, s.since = err, time.Now().Round(0)
	s.recorder.cfg.Logger.Warn("samples not written", "err", err)
}

// gaps returns what the file lacks, and why the GPUs are silent.
func (s *sampler) gaps() (gaps []Gap) {
	if s.refused != nil {
		gaps = append(gaps, Gap{What: gapSamples, Reason: "samples are missing from the file: " + s.refused.Error(), From: &s.since})
	}
	if s.silent != "" && time.Since(s.quiet) > maxStep {
		gaps = append(gaps, Gap{What: gapGPUSamples, Reason: s.silent, From: &s.quiet})
	}
	return gaps
}
