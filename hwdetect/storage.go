package hwdetect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// detectStorage describes the disk that holds dir. If that disk cannot be found,
// because dir is on a network share or in a container's layers, it describes the
// machine's first disk and returns an error that explains this.
func detectStorage(root fs.FS, dir string) (Storage, error) {
	disk, err := diskBehind(root, dir)
	if disk == "" {
		disk = firstDisk(root)
		if disk == "" {
			if err == nil {
				err = errors.New("there is no disk")
			}
			return Storage{}, err
		}
		if err != nil {
			err = fmt.Errorf("%w; using the first disk, %s", err, disk)
		}
	}
	s := describeDisk(root, disk)
	if s.Model == "" && err == nil {
		err = fmt.Errorf("disk %s has no model name", disk)
	}
	return s, err
}

// diskBehind returns the name of the disk that holds dir, such as nvme0n1, or
// an empty name and no error if dir is empty.
func diskBehind(root fs.FS, dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	mounts, err := readFile(root, "proc/self/mountinfo")
	if err != nil {
		return "", errors.New("proc/self/mountinfo: " + reason(err))
	}
	m, ok := findMount(mounts, resolve(root, dir))
	if !ok {
		return "", fmt.Errorf("the mount that holds %s was not found", dir)
	}
	name := blockByNumber(root, m.device)
	if name == "" && strings.HasPrefix(m.source, "/dev/") {
		// btrfs and ZFS have device numbers of their own.
		name = blockByPath(root, m.source)
	}
	if name == "" {
		return "", fmt.Errorf("%s is on %s (%s), which is not a local disk", dir, m.source, m.kind)
	}
	return wholeDisk(root, name), nil
}

// A mount is a line of proc/self/mountinfo.
type mount struct {
	device string // major:minor
	point  string
	kind   string
	source string
}

// findMount returns the mount that holds the clean absolute path dir. Of several
// on the same point, the last one covers the others (proc_pid_mountinfo(5)).
func findMount(mountinfo, dir string) (mount, bool) {
	var best mount
	var found bool
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 2 {
			continue
		}
		m := mount{device: left[2], point: unescape(left[4]), kind: right[0], source: unescape(right[1])}
		within := m.point == "/" || dir == m.point || strings.HasPrefix(dir, m.point+"/")
		if within && len(m.point) >= len(best.point) {
			best, found = m, true
		}
	}
	return best, found
}

// unescape decodes the octal escapes of white space in mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// resolve returns the absolute path dir with symbolic links resolved. Parts that
// don't exist yet stay as they are.
func resolve(root fs.FS, dir string) string {
	todo := strings.Split(path.Clean(dir), "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		info, err := fs.Lstat(root, next[1:])
		if err != nil || info.Mode()&fs.ModeSymlink == 0 || links == 40 {
			done = next
			continue
		}
		links++
		target, err := fs.ReadLink(root, next[1:])
		if err != nil {
			done = next
			continue
		}
		if path.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done
}

// blockByNumber returns the name of the block device with a number.
func blockByNumber(root fs.FS, device string) string {
	if strings.HasPrefix(device, "0:") {
		return "" // not a block device
	}
	for _, name := range list(root, "sys/class/block") {
		if readLine(root, "sys/class/block/"+name+"/dev") == device {
			return name
		}
	}
	return ""
}

// blockByPath returns the name of the block device that a path under /dev refers
// to, possibly through udev's links.
func blockByPath(root fs.FS, device string) string {
	name := path.Base(resolve(root, device))
	if exists(root, "sys/class/block/"+name) {
		return name
	}
	return ""
}

// wholeDisk returns the disk of a partition. For a device that is made of others
// (LVM, encryption, RAID) it returns the disk of the first of them.
func wholeDisk(root fs.FS, name string) string {
	for range 16 { // real stacks are not deeper, and a simulated tree might have a loop
		dir := "sys/class/block/" + name
		if slaves := list(root, dir+"/slaves"); len(slaves) > 0 {
			name = slaves[0]
			continue
		}
		if !exists(root, dir+"/partition") {
			return name
		}
		parent := ""
		for _, disk := range list(root, "sys/block") {
			if exists(root, "sys/block/"+disk+"/"+name) {
				parent = disk
			}
		}
		if parent == "" {
			return name
		}
		name = parent
	}
	return name
}

// firstDisk returns the name of the first NVMe disk, else of the first disk
// that has a model.
func firstDisk(root fs.FS) string {
	var first string
	for _, name := range list(root, "sys/block") {
		if describeDisk(root, name).Model == "" {
			continue
		}
		if strings.HasPrefix(name, "nvme") {
			return name
		}
		if first == "" && !strings.HasPrefix(name, "sr") {
			first = name
		}
	}
	return first
}

// describeDisk describes a disk from sysfs and, where udev runs, its database.
func describeDisk(root fs.FS, name string) Storage {
	dir := "sys/block/" + name
	s := Storage{Model: strings.Join(strings.Fields(readLine(root, dir+"/device/model")), " ")}
	// sysfs cuts a SATA disk's model at 16 characters; udev has all of it.
	if m := udevModel(root, readLine(root, dir+"/dev")); len(m) > len(s.Model) {
		s.Model = m
	}
	switch {
	case strings.HasPrefix(name, "nvme"):
		s.Type = "nvme"
	case readLine(root, dir+"/queue/rotational") == "1":
		s.Type = "hdd"
	case readLine(root, dir+"/queue/rotational") == "0":
		s.Type = "ssd"
	}
	if strings.HasPrefix(name, "vd") || strings.HasPrefix(name, "xvd") {
		s.Type = "" // a virtual disk doesn't know its real type
	}
	s.Brand = diskBrand(s.Model)
	return s
}

// udevModel returns the full model of a block device from udev's database.
func udevModel(root fs.FS, device string) string {
	if device == "" {
		return ""
	}
	text, _ := readFile(root, "run/udev/data/b"+device)
	for line := range strings.Lines(text) {
		if enc, ok := strings.CutPrefix(line, "E:ID_MODEL_ENC="); ok {
			return strings.Join(strings.Fields(unescapeHex(enc)), " ")
		}
	}
	return ""
}

// unescapeHex decodes udev's hexadecimal escapes, such as \x20.
func unescapeHex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+3 < len(s) && s[i] == '\\' && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// diskBrand returns the manufacturer of a disk, or Unknown. It knows the same
// names as KITT's Python agent, because the brand is part of the fingerprint.
func diskBrand(model string) string {
	if model == "" {
		return ""
	}
	lower := strings.ToLower(model)
	for _, b := range []string{"Samsung", "WD", "Western Digital", "Intel", "Crucial", "Kingston", "SK hynix", "Seagate", "Micron"} {
		if strings.Contains(lower, strings.ToLower(b)) {
			if b == "Western Digital" {
				return "WD"
			}
			return b
		}
	}
	return "Unknown"
}
