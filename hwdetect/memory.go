package hwdetect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// memTotal returns the machine's RAM in bytes, from the MemTotal line of
// proc/meminfo, whose "kB" is KiB (proc_meminfo(5)).
func memTotal(root fs.FS) (int64, error) {
	text, err := readFile(root, "proc/meminfo")
	if err != nil {
		return 0, errors.New("proc/meminfo: " + reason(err))
	}
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil || kib < 0 || kib > math.MaxInt64/1024 {
			return 0, fmt.Errorf("proc/meminfo: cannot read %q", strings.TrimSpace(line))
		}
		return kib * 1024, nil
	}
	return 0, errors.New("proc/meminfo has no MemTotal")
}

// memoryType returns the type of the machine's RAM, such as DDR5. Only root can
// read the firmware's table, so two sources come first that need no privileges:
// udev's copy of that table (systemd's dmi_memory_id), and the memory
// controller's driver.
func memoryType(root fs.FS) (string, error) {
	if text, err := readFile(root, "run/udev/data/+dmi:id"); err == nil {
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(line, "=")
			if strings.HasPrefix(key, "E:MEMORY_DEVICE_") && strings.HasSuffix(key, "_TYPE") {
				if t := findMemoryType(value); t != "" {
					return t, nil
				}
			}
		}
	}
	for _, mc := range list(root, "sys/devices/system/edac/mc") {
		for _, dimm := range list(root, "sys/devices/system/edac/mc/"+mc) {
			if t := findMemoryType(readLine(root, "sys/devices/system/edac/mc/"+mc+"/"+dimm+"/dimm_mem_type")); t != "" {
				return t, nil
			}
		}
	}
	table, err := readFile(root, "sys/firmware/dmi/tables/DMI")
	if err != nil {
		return "", errors.New("neither udev nor an EDAC driver reports it, and sys/firmware/dmi/tables/DMI: " + reason(err))
	}
	if t := smbiosMemoryType([]byte(table)); t != "" {
		return t, nil
	}
	return "", errors.New("the firmware does not report it")
}

var memoryTypes = regexp.MustCompile(`(LP)?DDR[1-9]X?|HBM[1-9]?E?`)

// findMemoryType returns the memory type in a text such as Registered-DDR5 or
// Low-Power-DDR4-RAM (the kernel's edac_mem_types).
func findMemoryType(s string) string {
	s = strings.ReplaceAll(strings.ToUpper(s), "LOW-POWER-DDR", "LPDDR")
	return memoryTypes.FindString(s)
}

// smbiosMemoryType returns the type of the first memory device (structure type
// 17) that is installed, from an SMBIOS structure table. Offsets and numbers are
// those of the SMBIOS specification 3.7, section 7.18.
func smbiosMemoryType(table []byte) string {
	for len(table) >= 4 {
		kind, length := table[0], int(table[1])
		if length < 4 || length > len(table) {
			return ""
		}
		s := table[:length]
		if kind == 17 && length > 0x12 && binary.LittleEndian.Uint16(s[0x0c:]) != 0 {
			switch s[0x12] {
			case 0x18:
				return "DDR3"
			case 0x1a:
				return "DDR4"
			case 0x1d:
				return "LPDDR3"
			case 0x1e:
				return "LPDDR4"
			case 0x20:
				return "HBM"
			case 0x21:
				return "HBM2"
			case 0x22:
				return "DDR5"
			case 0x23:
				return "LPDDR5"
			case 0x24:
				return "HBM3"
			}
		}
		if kind == 127 { // end of table
			return ""
		}
		// The strings of a structure follow it and end with two zero bytes.
		rest := table[length:]
		end := strings.Index(string(rest), "\x00\x00")
		if end < 0 {
			return ""
		}
		table = rest[end+2:]
	}
	return ""
}
