package gpusets

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
)

func machine(t testing.TB, name string) *hwdetect.Machine {
	t.Helper()
	m, ok := hwdetect.Profile(name)
	require.True(t, ok)
	return m
}

func allocator(t testing.TB, cfg Config, m *hwdetect.Machine) *Allocator {
	t.Helper()
	a, err := New(cfg, func() *hwdetect.Machine { return m })
	require.NoError(t, err)
	return a
}

func indexes(m *hwdetect.Machine, set []string) (list []int) {
	for _, uuid := range set {
		list = append(list, slices.IndexFunc(m.GPUs, func(g hwdetect.GPU) bool { return g.UUID == uuid }))
	}
	return list
}

func TestSetsPerJobAreClose(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	a := allocator(t, Config{PerJob: 4}, m)
	first, err := a.Take("a")
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 3}, indexes(m, first), "one NUMA node")
	second, err := a.Take("b")
	require.NoError(t, err)
	require.Equal(t, []int{4, 5, 6, 7}, indexes(m, second))
	_, err = a.Take("c")
	require.ErrorIs(t, err, ErrNone)
	require.ErrorContains(t, err, "4 of one kind are needed, and of 8 0 are free and usable")
	again, err := a.Take("a")
	require.NoError(t, err)
	require.Equal(t, first, again)
}

// TestSetsFollowNVLinkBridges pairs cards by their bridges, not by their indexes.
func TestSetsFollowNVLinkBridges(t *testing.T) {
	t.Parallel()
	m := &hwdetect.Machine{}
	for i, peer := range []int{2, 3, 0, 1} {
		m.GPUs = append(m.GPUs, hwdetect.GPU{Index: i, UUID: fmt.Sprint("GPU-", i), NVLinkPeers: []int{peer}, NUMANode: new(i / 2)})
	}
	a := allocator(t, Config{PerJob: 2}, m)
	for _, want := range [][]int{{0, 2}, {1, 3}} {
		set, err := a.Take(fmt.Sprint(want))
		require.NoError(t, err)
		require.Equal(t, want, indexes(m, set))
	}
}

// TestSetsLeaveGroupsWhole takes the single card, and not one of a linked pair.
func TestSetsLeaveGroupsWhole(t *testing.T) {
	t.Parallel()
	m := &hwdetect.Machine{GPUs: []hwdetect.GPU{{Index: 0, UUID: "GPU-0", NVLinkPeers: []int{1}}, {Index: 1, UUID: "GPU-1", NVLinkPeers: []int{0}}, {Index: 2, UUID: "GPU-2"}}}
	set, err := allocator(t, Config{PerJob: 1}, m).Take("a")
	require.NoError(t, err)
	require.Equal(t, []string{"GPU-2"}, set)
}

func TestListedSets(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	a := allocator(t, Config{Sets: [][]string{{"0", m.GPUs[1].UUID}, {"9"}, {"2", "3"}}}, m)
	set, err := a.Take("a")
	require.NoError(t, err)
	require.Equal(t, []int{0, 1}, indexes(m, set))
	set, err = a.Take("b")
	require.NoError(t, err)
	require.Equal(t, []int{2, 3}, indexes(m, set))
	_, err = a.Take("c")
	require.ErrorContains(t, err, "all sets are held; set 2 can't be used: the machine has no GPU 9")
	a.Release("b")
	set, err = a.Take("c")
	require.NoError(t, err)
	require.Equal(t, []int{2, 3}, indexes(m, set))
}

// TestListedSetsThatOverlap are given to one job at a time, though the file names a GPU
// once by index and once by UUID.
func TestListedSetsThatOverlap(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	a := allocator(t, Config{Sets: [][]string{{"0"}, {m.GPUs[0].UUID}}}, m)
	_, err := a.Take("a")
	require.NoError(t, err)
	_, err = a.Take("b")
	require.ErrorIs(t, err, ErrNone)
}

// TestMIGInstancesAreDevices gives out instances, and never their GPU.
func TestMIGInstancesAreDevices(t *testing.T) {
	t.Parallel()
	m := machine(t, "a100-mig")
	a := allocator(t, Config{PerJob: 1}, m)
	seen := map[string]bool{}
	for i, instance := range m.GPUs[0].MIG.Instances {
		set, err := a.Take(strconv.Itoa(i))
		require.NoError(t, err)
		require.Contains(t, set[0], "MIG-")
		seen[set[0]] = true
		require.Equal(t, 1, Place(m, set).Files, "the file of the GPU that %s is on", instance.Profile)
	}
	require.Len(t, seen, 4)
	_, err := a.Take("more")
	require.ErrorIs(t, err, ErrNone)
	_, err = allocator(t, Config{Sets: [][]string{{"0"}}}, m).Take("a")
	require.ErrorContains(t, err, "no GPU 0 that is not in MIG mode")
	two, err := allocator(t, Config{PerJob: 2}, m).Take("a")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{m.GPUs[0].MIG.Instances[2].UUID, m.GPUs[0].MIG.Instances[3].UUID}, two, "of one profile")
}

// TestLostGPUIsGivenToNobody has a GPU fall off the bus while a job holds it.
func TestLostGPUIsGivenToNobody(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	now := m
	a, err := New(Config{PerJob: 4}, func() *hwdetect.Machine { return now })
	require.NoError(t, err)
	held, err := a.Take("a")
	require.NoError(t, err)
	lost := *m
	lost.GPUs = slices.Clone(m.GPUs)
	lost.GPUs[2].Fault = "the GPU has fallen off the bus; restart the machine"
	now = &lost
	again, err := a.Take("a")
	require.NoError(t, err)
	require.Equal(t, held, again, "the job keeps what it holds")
	_, err = a.Take("b")
	require.NoError(t, err)
	a.Release("a")
	_, err = a.Take("c")
	require.ErrorIs(t, err, ErrNone)
	now = m
	_, err = a.Take("c")
	require.NoError(t, err, "it came back")
}

func TestJobFromBeforeThereWereSetsHoldsAll(t *testing.T) {
	t.Parallel()
	a := allocator(t, Config{PerJob: 1}, machine(t, "h100-8"))
	a.Hold("old", nil)
	_, err := a.Take("a")
	require.ErrorContains(t, err, "job old, which began before there were sets")
	a.Release("old")
	_, err = a.Take("a")
	require.NoError(t, err)
}

func TestPlaceOfASet(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	require.Equal(t, Placement{Files: 2, Host: runner.HostSet{CPUs: "0-55,112-167", MemoryNodes: "0", MemoryShare: 0.25}}, Place(m, []string{m.GPUs[0].UUID, m.GPUs[1].UUID}))
	require.Equal(t, Placement{Files: 2, Host: runner.HostSet{CPUs: "0-223", MemoryNodes: "0-1", MemoryShare: 0.25}}, Place(m, []string{m.GPUs[3].UUID, m.GPUs[4].UUID}))
	require.Equal(t, Placement{Files: 8}, Place(m, []string{runner.AllGPUs}))
	require.Equal(t, Placement{Files: 1}, Place(m, []string{"GPU-gone"}))
	require.Zero(t, Place(m, nil))
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	m := machine(t, "h100-8")
	of := func(list ...int) (set []string) {
		for _, i := range list {
			set = append(set, m.GPUs[i].UUID)
		}
		return set
	}
	require.Equal(t, "CPUs 0-55,112-167 and memory node 0", Overlap(m, of(0, 1), of(2, 3)))
	require.Empty(t, Overlap(m, of(0, 1), of(4, 5)))
	require.Equal(t, "the same GPUs", Overlap(m, of(0), of(1, 0)))
	require.Equal(t, "the same GPUs", Overlap(m, []string{runner.AllGPUs}, of(0)))
	mig := machine(t, "a100-mig")
	require.Equal(t, "GPU 0, in other MIG instances", Overlap(mig, []string{mig.GPUs[0].MIG.Instances[0].UUID}, []string{mig.GPUs[0].MIG.Instances[1].UUID}))
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"not both":                 {Sets: [][]string{{"0"}}, PerJob: 1},
		"not from 1 to 64":         {PerJob: 65},
		"has 0 GPUs":               {Sets: [][]string{{}}},
		"0 is in set 1 and":        {Sets: [][]string{{"0"}, {"0"}}},
		"neither a UUID nor":       {Sets: [][]string{{"gpu zero"}}},
		"is in set 1 and in set 1": {Sets: [][]string{{"0", "0"}}},
	} {
		require.ErrorContains(t, cfg.Validate(), want)
	}
	a, err := New(Config{}, nil)
	require.NoError(t, err)
	require.Nil(t, a)
}

// TestNoDeviceHasTwoHolders takes, releases, loses GPUs and restarts in any order. What a
// job holds is what its record says, which is all that a restart has.
func TestNoDeviceHasTwoHolders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := hwdetect.Random(rapid.Uint64().Draw(t, "seed"))
		devices := Devices(m)
		cfg := Config{PerJob: rapid.IntRange(1, 4).Draw(t, "per job")}
		if rapid.Bool().Draw(t, "listed") && len(devices) > 0 {
			cfg = Config{}
			for _, d := range devices {
				if len(cfg.Sets) == 0 || rapid.Bool().Draw(t, "next set") {
					cfg.Sets = append(cfg.Sets, nil)
				}
				last := len(cfg.Sets) - 1
				cfg.Sets[last] = append(cfg.Sets[last], d.UUID)
			}
		}
		now := m
		start := func() *Allocator {
			a, err := New(cfg, func() *hwdetect.Machine { return now })
			require.NoError(t, err)
			return a
		}
		a, records := start(), map[string][]string{}
		free := func() int { // devices that nobody holds
			n := len(devices)
			for _, set := range records {
				n -= len(set)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				job := strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "job"))
				set, err := a.Take(job)
				if before, holds := records[job]; holds {
					require.NoError(t, err)
					require.Equal(t, before, set)
					return
				}
				if err == nil {
					records[job] = set
				}
			},
			"release": func(t *rapid.T) {
				job := strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "job"))
				a.Release(job)
				delete(records, job)
			},
			"restart": func(*rapid.T) {
				a = start()
				for job, set := range records {
					a.Hold(job, set)
				}
			},
			"lose a GPU": func(t *rapid.T) {
				if len(m.GPUs) == 0 {
					return
				}
				changed := *m
				changed.GPUs = slices.Clone(m.GPUs)
				changed.GPUs[rapid.IntRange(0, len(m.GPUs)-1).Draw(t, "gpu")].Fault = "lost"
				now = &changed
			},
			"repair": func(*rapid.T) { now = m },
			"": func(t *rapid.T) {
				holder := map[string]string{}
				for job, set := range records {
					require.NotEmpty(t, set)
					for _, uuid := range set {
						require.Empty(t, holder[uuid], "%s has two holders", uuid)
						holder[uuid] = job
					}
				}
				for _, s := range a.Sets() {
					for _, uuid := range s.Devices {
						require.Equal(t, holder[uuid], s.Holder, uuid)
					}
				}
			},
		})
		// Nothing leaks: once all is released, as many sets are there as at the start.
		now = m
		for job := range records {
			a.Release(job)
		}
		records = map[string][]string{}
		require.Equal(t, len(devices), free())
		fresh := start()
		require.Equal(t, fresh.Sets(), a.Sets())
	})
}
