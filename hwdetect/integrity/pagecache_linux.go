package integrity

import (
	"os"
	"syscall"
	"unsafe"

	"github.com/kirizan/kitt-agent/internal/base"
)

// residentPages looks at some pages of a file, spread over all of it, and returns how many
// and how many of them are in memory (mincore(2)).
func residentPages(path string) (pages, resident int, err error) {
	if target, err := os.Readlink(path); err == nil && target != "" {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return 0, 0, nil // a link to a directory, or to nothing
		}
	}
	f, err := base.OpenRegular(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, 0, err
	}
	// Since Linux 5.2 all pages of a file of somebody else's look resident.
	owner, ok := info.Sys().(*syscall.Stat_t)
	if euid := os.Geteuid(); !ok || euid != 0 && int(owner.Uid) != euid {
		return 0, 0, errNotOurs
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = syscall.Munmap(mapped) }()
	size := int64(os.Getpagesize())
	all := (info.Size() + size - 1) / size
	for n := range min(all, pagesPerFile) {
		at := n * all / min(all, pagesPerFile) * size
		var in byte
		// The address is of the mapping, which Go's collector does not know.
		_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[at])), 1, uintptr(unsafe.Pointer(&in)))
		if errno != 0 {
			return 0, 0, errno
		}
		pages++
		resident += int(in & 1)
	}
	return pages, resident, nil
}
