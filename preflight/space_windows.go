package preflight

import "golang.org/x/sys/windows"

// unixModes is true if a file's mode tells which users can read it.
const unixModes = false

// freeSpace returns the free bytes on the volume of dir that this user may use.
func freeSpace(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(name, &free, nil, nil)
	return int64(free), err
}
