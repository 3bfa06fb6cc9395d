//go:build !linux

package modelcopy

import (
	"io/fs"
	"os"
	"path"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// Other systems do without what only Linux offers.

func lstatAt(at beneath.Folder, rel string, _ bool) (meta, error) {
	info, err := at.Root.Lstat(path.Join(at.Path, rel))
	if err != nil {
		return meta{}, err
	}
	return metaOf(info), nil
}

func metaOf(info fs.FileInfo) meta {
	return meta{stamp: stamp{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}, allocated: info.Size(), links: 1}
}

func reflink(_, _ *os.File) bool                { return false }
func linkFile(_, _ *os.File, _ string) bool     { return false }
func preallocate(*os.File, int64) (bool, error) { return false, nil }
func punchHole(*os.File, int64, int64) bool     { return false }
func nextData(_ *os.File, off, _ int64) int64   { return off }
func dataBytes(_ *os.File, size int64) int64    { return size }
func isRemote(*os.File) bool                    { return true }
func adviseReadahead(*os.File, bool)            {}
func inCache(*os.File, int64, int64) bool       { return true }
func setDirect(*os.File, bool) bool             { return false }
func dropCache(*os.File, int64, int64)          {}
func startWriteback(*os.File, int64, int64)     {}
func memoryTotal() int64                        { return 0 }
