package integrity

import (
	"errors"
	"fmt"
	"syscall"
)

// readKernelXIDs returns the latest errors of GPUs in the kernel's log at path.
func readKernelXIDs(path string) (found []KernelXID, err error) {
	// Not package os, which would wait for the next record at the end.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer syscall.Close(fd)
	record := make([]byte, 8192) // the kernel's limit of one record
	for range maxKernelRecords {
		n, err := syscall.Read(fd, record)
		switch {
		case errors.Is(err, syscall.EAGAIN), err == nil && n == 0:
			return found, nil
		case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EINVAL):
			continue // records were overwritten meanwhile, or one is longer
		case err != nil:
			return found, fmt.Errorf("read %s: %w", path, err)
		}
		if x, ok := parseXID(record[:n]); ok {
			if found = append(found, x); len(found) > maxKernelXIDs {
				found = found[1:]
			}
		}
	}
	return found, nil
}
