package integrity

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
)

// A PageCache says how much of a model was in memory before a run. Without it a time to
// load means nothing.
type PageCache struct {
	Files    int     `json:"files"`
	Pages    int     `json:"pages"`    // that were looked at, at most 256 of each file
	Resident float64 `json:"resident"` // share of them, 0 (cold) to 1 (warm)
}

const (
	maxCacheFiles = 1000
	pagesPerFile  = 256
)

var errNotOurs = errors.New("the kernel tells only the owner of a file which of its pages are in memory")

// modelFiles returns the regular files of paths, each of which is a file or a directory.
func modelFiles(ctx context.Context, paths []string) (files []string, err error) {
	for _, path := range paths {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			path = resolved
		}
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case len(files) == maxCacheFiles:
				return fs.SkipAll
			case d.Type().IsRegular(), d.Type()&fs.ModeSymlink != 0:
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			return files, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// pageCacheOf looks how much of a model is in memory. It reads none of it.
func pageCacheOf(ctx context.Context, paths []string) (*PageCache, error) {
	files, err := modelFiles(ctx, paths)
	if err != nil {
		return nil, err
	}
	var c PageCache
	resident := 0
	for _, file := range files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pages, in, err := residentPages(file)
		if err != nil {
			return nil, err
		}
		if pages > 0 {
			c.Files++
		}
		c.Pages += pages
		resident += in
	}
	if c.Pages == 0 {
		return nil, errors.New("there is no model file to look at")
	}
	c.Resident = float64(resident) / float64(c.Pages)
	return &c, nil
}
