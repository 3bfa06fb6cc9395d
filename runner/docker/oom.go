package docker

import (
	"os"
	"strconv"
	"strings"
)

// The engine learns from the container's own cgroup that memory ran out, and
// misses what the kernel kills when the whole machine has none left, which is
// how benchmarks without a limit end. /proc/vmstat counts all of these kills, so
// a benchmark that was killed while the count rose was killed for that.

// kernelKills returns how many processes the kernel has killed for want of
// memory since it started, or -1 where that can't be told.
func kernelKills() int64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return -1
	}
	return parseKills(string(text))
}

// parseKills returns the count in the text of /proc/vmstat, or -1.
func parseKills(text string) int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil || n < 0 {
				return -1
			}
			return n
		}
	}
	return -1
}

// kernelKilled says whether the kernel killed a benchmark for want of memory,
// by the count of now and that of before its start.
func (rec record) kernelKilled(code int, now int64, boot string) bool {
	const killed = 128 + 9
	return code == killed && boot == rec.Boot && rec.Kills >= 0 && now > rec.Kills
}
