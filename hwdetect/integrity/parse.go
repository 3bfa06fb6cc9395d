package integrity

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// parsePressure returns the totals of a file of /proc/pressure. On each line the
// total is in microseconds. "full" is missing for the CPU on older kernels.
func parsePressure(text string) (some, full *time.Duration) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		for _, f := range fields[1:] {
			total, ok := strings.CutPrefix(f, "total=")
			if !ok {
				continue
			}
			us, err := strconv.ParseInt(total, 10, 64)
			if err != nil || us < 0 || us > math.MaxInt64/int64(time.Microsecond) {
				continue
			}
			d := time.Duration(us) * time.Microsecond
			switch fields[0] {
			case "some":
				some = &d
			case "full":
				full = &d
			}
		}
	}
	return some, full
}

// parseCPU returns the ticks of all states, and those stolen, from the first line of
// /proc/stat. Guest time is part of user time (proc_stat(5)).
func parseCPU(text string) (total, steal int64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	const states = 8 // user, nice, system, idle, iowait, irq, softirq, steal
	if len(fields) < 1+states || fields[0] != "cpu" {
		return 0, 0, errors.New("no line of all CPUs")
	}
	for i, f := range fields[1 : 1+states] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/(2*states) {
			return 0, 0, errors.New("bad tick count")
		}
		total += n
		if i == states-1 {
			steal = n
		}
	}
	return total, steal, nil
}

// parseCounters returns the numbers of a file of names and numbers, such as
// /proc/vmstat, for the given names. A missing name is nil.
func parseCounters(text string, names ...string) []*int64 {
	found := make([]*int64, len(names))
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for i, want := range names {
			if name != want {
				continue
			}
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				found[i] = &n
			}
		}
	}
	return found
}

// parseUptime returns the first number of /proc/uptime, in seconds.
func parseUptime(text string) *time.Duration {
	first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	s, err := strconv.ParseFloat(first, 64)
	if err != nil || !(s >= 0 && s < math.MaxInt64/1e9) {
		return nil
	}
	d := time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond)
	return &d
}
