package base

import (
	"os"
	"strings"
)

// BootID returns the id that the Linux kernel chose when the machine started,
// from /proc/sys/kernel/random/boot_id (random(4)). It is empty where there is
// none.
func BootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
