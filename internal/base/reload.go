package base

import (
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// A Reloaded is a value that is made from files, and made again when they
// change. Its methods are safe for concurrent use.
type Reloaded[T any] struct {
	files []string
	load  func() (T, error)
	tell  func(T, error)

	now     atomic.Pointer[T]
	reading atomic.Bool // whether a Get looks at the files; guards seen and failing
	seen    []fileStamp
	failing bool
}

// fileStamp tells one version of a file from another; zero where there is none.
type fileStamp struct {
	size int64
	time time.Time
}

// NewReloaded returns a value that load makes from files, whose empty names
// count for nothing. tell is called after each later load: with the new value,
// or, once until a load succeeds, with the error of one that failed.
func NewReloaded[T any](files []string, load func() (T, error), tell func(T, error)) (*Reloaded[T], error) {
	r := &Reloaded[T]{files: files, load: load, tell: tell, seen: stampFiles(files)}
	v, err := load()
	if err != nil {
		return nil, err
	}
	r.now.Store(&v)
	return r, nil
}

// Get returns the value for the files as they are now. Files that can't be used,
// as between the two halves of a replacement, leave the value before in force,
// and so does a disk that does not answer another Get.
func (r *Reloaded[T]) Get() T {
	if !r.reading.CompareAndSwap(false, true) {
		return *r.now.Load()
	}
	defer r.reading.Store(false)
	stamps := stampFiles(r.files)
	if slices.EqualFunc(stamps, r.seen, fileStamp.equal) {
		return *r.now.Load()
	}
	v, err := r.load()
	switch {
	case err == nil:
		r.now.Store(&v)
		r.seen, r.failing = stamps, false
		r.tell(v, nil)
	case !r.failing:
		r.failing = true
		r.tell(v, err)
	}
	return *r.now.Load()
}

func stampFiles(files []string) []fileStamp {
	stamps := make([]fileStamp, len(files))
	for i, name := range files {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			stamps[i] = fileStamp{info.Size(), info.ModTime()}
		}
	}
	return stamps
}

func (s fileStamp) equal(t fileStamp) bool { return s.size == t.size && s.time.Equal(t.time) }
