package integrity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Load on CPUs and disks is told, and judged where the owner sets a limit. Tasks that all
// wait for memory are a warning.
func TestPressure(t *testing.T) {
	t.Parallel()
	begun := time.Unix(1_800_000_000, 0)
	state := func(up, cpu, memory, io time.Duration) State {
		return State{Time: begun.Add(up), Host: HostState{Uptime: &up, Pressure: Pressure{CPUSome: &cpu, MemoryFull: &memory, IOSome: &io}}}
	}
	start, end := state(0, 0, 0, 0), state(100*time.Second, 30*time.Second, 2*time.Second, 40*time.Second)
	e := &Evidence{Start: start, End: &end}
	v := Decide(e, Judges(DefaultRules())...)
	require.Equal(t, "Machine: WARNING - all tasks waited for memory for 2% of 100 s", v.Line())
	var told []string
	for _, r := range v.Reasons[1:] {
		require.Equal(t, Info, r.Severity)
		told = append(told, r.Text)
	}
	require.Subset(t, told, []string{"a task waited for a CPU for 30% of 100 s", "a task waited for a disk for 40% of 100 s"})

	rules, err := SetLimits(DefaultRules(), map[string]Limit{"cpu_pressure": {Invalid: new(20.0)}})
	require.NoError(t, err)
	require.Equal(t, "Machine: INVALID - a task waited for a CPU for 30% of 100 s", Decide(e, Judges(rules)...).Line())
}
