//go:build !linux

package integrity

import "errors"

func residentPages(string) (pages, resident int, err error) {
	return 0, 0, errors.New("pages in memory can be counted on Linux only")
}
