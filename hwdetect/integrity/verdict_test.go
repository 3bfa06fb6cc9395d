package integrity

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A run is a synthetic series on a machine with healthy GPUs.
type run struct {
	gpus    int
	seconds int
	end     func(*State)           // changes the end
	sample  func(i int, s *Sample) // changes the i-th sample
	start   func(*State)           // changes the start, and the end with it
	foreign []ForeignProcess
}

// evidence plays the run.
func (r run) evidence() *Evidence {
	state := func(at time.Duration) State {
		s := State{Time: noon.Add(at), BootID: "boot", Host: HostState{
			Uptime: new(time.Hour + at), CPUTicks: new(int64(at / (5 * time.Millisecond))), StealTicks: new(int64(0)),
			Pressure: Pressure{MemoryFull: new(time.Second)}, SwapInPages: new(int64(0)), Governors: []string{"performance"},
		}}
		for i := range r.gpus {
			s.GPUs = append(s.GPUs, hwdetect.GPUCounters{
				Index: i, UUID: string(rune('a' + i)), PowerCap: new(time.Minute + at), SyncBoost: new(time.Duration(0)),
				SWThermal: new(time.Minute), HWThermal: new(time.Minute), HWPowerBrake: new(time.Minute),
				EnergyJ: new(1000 + 600*at.Seconds()), PowerLimitW: new(700.0), DefaultPowerLimitW: new(700.0),
				Persistence: new(true), ComputeMode: "Default", MIG: new(false), ECC: new(true), ECCUncorrected: new(int64(2)),
				RemapPending: new(false), RemapFailed: new(false), MaxPCIeWidth: new(16),
			})
		}
		if r.start != nil {
			r.start(&s)
		}
		return s
	}
	all := time.Duration(r.seconds) * time.Second
	e := &Evidence{Start: state(0), Foreign: r.foreign, ForeignKnown: true}
	end := state(all)
	if r.end != nil {
		r.end(&end)
	}
	e.End = &end
	for i := range r.seconds + 1 {
		at := time.Duration(i) * time.Second
		s := Sample{Time: noon.Add(at), Uptime: new(time.Hour + at)}
		for g := range r.gpus {
			s.GPUs = append(s.GPUs, hwdetect.GPUTelemetry{
				Index: g, UtilizationPct: new(98.0), PowerW: new(600.0), TemperatureC: new(60.0), SMClockMHz: new(1965 + i%2*15), PCIeWidth: new(16),
			})
		}
		if r.sample != nil {
			r.sample(i, &s)
		}
		if !s.Time.IsZero() {
			e.Samples.Add(s)
		}
	}
	e.Samples.Finish()
	return e
}

func decide(r run) Verdict { return Decide(r.evidence(), Judges(DefaultRules())...) }

func TestVerdicts(t *testing.T) {
	t.Parallel()
	add := func(field **time.Duration, d time.Duration) { *field = new(**field + d) }
	for _, tt := range []struct {
		name string
		run  run
		want Grade
		line string
	}{
		{"healthy", run{gpus: 8}, Valid, "Machine: valid"},
		{"without GPUs", run{}, Valid, "Machine: valid"},
		{"power cap is a property of the card", run{gpus: 1, end: func(s *State) { add(&s.GPUs[0].PowerCap, 99*time.Second) }}, Valid, "Machine: valid"},
		{"hardware thermal", run{gpus: 4, end: func(s *State) { add(&s.GPUs[3].HWThermal, 22464*time.Millisecond) }}, Invalid,
			"Machine: INVALID - hardware thermal slowdown for 7.2% of 312 s on GPU 3"},
		{"hardware thermal, below the limit", run{gpus: 4, end: func(s *State) { add(&s.GPUs[3].HWThermal, 300*time.Millisecond) }}, Valid, "Machine: valid"},
		{"power brake", run{gpus: 1, end: func(s *State) { add(&s.GPUs[0].HWPowerBrake, time.Second) }}, Invalid,
			"Machine: INVALID - hardware power brake for 0.321% of 312 s on GPU 0"},
		{"driver's thermal", run{gpus: 1, end: func(s *State) { add(&s.GPUs[0].SWThermal, 6*time.Second) }}, Warning,
			"Machine: WARNING - thermal slowdown by the driver for 1.92% of 312 s on GPU 0"},
		{"driver's thermal, much", run{gpus: 1, end: func(s *State) { add(&s.GPUs[0].SWThermal, 30*time.Second) }}, Invalid,
			"Machine: INVALID - thermal slowdown by the driver for 9.62% of 312 s on GPU 0"},
		{"two reasons", run{gpus: 2, end: func(s *State) {
			add(&s.GPUs[1].HWThermal, 30*time.Second)
			s.GPUs[0].ECCUncorrected = new(int64(3))
		}}, Invalid, "Machine: INVALID - 1 uncorrected memory errors on GPU 0 (and 1 more)"},
		{"ECC", run{gpus: 1, end: func(s *State) { s.GPUs[0].ECCUncorrected = new(int64(3)) }}, Invalid,
			"Machine: INVALID - 1 uncorrected memory errors on GPU 0"},
		{"power limit changed", run{gpus: 1, end: func(s *State) { s.GPUs[0].PowerLimitW = new(500.0) }}, Invalid,
			"Machine: INVALID - power limit changed during the run on GPU 0"},
		{"modes changed", run{gpus: 1, end: func(s *State) { s.GPUs[0].ECC, s.GPUs[0].ComputeMode = new(false), "Prohibited" }}, Invalid,
			"Machine: INVALID - compute mode, ECC mode changed during the run on GPU 0"},
		{"power limit low", run{gpus: 1, start: func(s *State) { s.GPUs[0].PowerLimitW = new(400.0) }}, Warning,
			"Machine: WARNING - power limit of 400 W instead of 700 W on GPU 0"},
		{"persistence off", run{gpus: 1, start: func(s *State) { s.GPUs[0].Persistence = new(false) }}, Warning,
			"Machine: WARNING - persistence mode off on GPU 0"},
		{"remap failed", run{gpus: 1, end: func(s *State) { s.GPUs[0].RemapFailed = new(true) }}, Warning,
			"Machine: WARNING - memory with errors could not be replaced by spare rows on GPU 0"},
		{"clocks vary", run{gpus: 1, sample: func(i int, s *Sample) { s.GPUs[0].SMClockMHz = new(1965 - i) }}, Warning,
			"Machine: WARNING - SM clocks under load spread by 15.5% around 1809 MHz on GPU 0"},
		{"one odd clock", run{gpus: 1, sample: func(i int, s *Sample) {
			if i == 50 {
				s.GPUs[0].SMClockMHz = new(1200)
			}
		}}, Valid, "Machine: valid"},
		{"link narrow, one GPU", run{gpus: 1, sample: narrow}, Warning, "Machine: WARNING - PCIe link with 8 of 16 lanes under load on GPU 0"},
		{"link narrow, two GPUs", run{gpus: 2, sample: narrow}, Invalid, "Machine: INVALID - PCIe link with 8 of 16 lanes under load on GPU 0"},
		{"link narrow when idle", run{gpus: 2, sample: func(i int, s *Sample) {
			if i < 20 {
				narrow(i, s)
				s.GPUs[0].UtilizationPct = new(0.0)
			}
		}}, Valid, "Machine: valid"},
		{"XID of a failed GPU", run{gpus: 1, sample: xid(79, 100)}, Invalid, "Machine: INVALID - XID 79: the GPU failed on GPU 0"},
		{"XID of the job", run{gpus: 1, sample: xid(31, 100)}, Warning, "Machine: WARNING - XID 31, which the benchmark itself caused on GPU 0"},
		{"XID from before", run{gpus: 1, sample: xid(79, 0)}, Valid, "Machine: valid"},
		{"foreign process", run{gpus: 1, foreign: []ForeignProcess{{PID: 7, Command: "python3", Owner: "eve", MaxSMPct: new(40.0)}}}, Invalid,
			"Machine: INVALID - process 7 (python3 of eve) used up to 40% of the SMs on GPU 0"},
		{"foreign memory", run{gpus: 1, foreign: []ForeignProcess{{PID: 7, MaxSMPct: new(0.0)}}}, Warning,
			"Machine: WARNING - process 7 (unknown of unknown) held memory on GPU 0"},
		{"steal", run{end: func(s *State) { s.Host.StealTicks = new(int64(31200 * 2 / 50)) }}, Warning,
			"Machine: WARNING - the hypervisor withheld 2% of the CPU time"},
		{"memory pressure", run{end: func(s *State) { add(&s.Host.MemoryFull, 3120*time.Millisecond) }}, Warning,
			"Machine: WARNING - all tasks waited for memory for 1% of 312 s"},
		{"swap", run{end: func(s *State) { s.Host.SwapInPages = new(int64(5)) }}, Warning, "Machine: WARNING - 5 pages were read from swap"},
		{"governor", run{start: func(s *State) { s.Host.Governors = []string{"powersave"} }}, Valid, "Machine: valid"},
		{"clock set", run{end: func(s *State) { s.Time = s.Time.Add(-7 * time.Second) }}, Warning, "Machine: WARNING - the clock was set by 7s"},
		{"clock set and set back", run{sample: func(i int, s *Sample) {
			if i > 100 && i < 200 {
				s.Time = s.Time.Add(time.Minute)
			}
		}}, Warning, "Machine: WARNING - the clock was set by 1m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run.seconds = 312
			v := decide(tt.run)
			require.Equal(t, tt.line, v.Line())
			require.Equal(t, tt.want, v.Grade)
			require.Positive(t, v.Judged)
			for _, r := range v.Reasons {
				require.NotEmpty(t, r.Text)
				require.NotEmpty(t, r.Code)
			}
		})
	}
}

func narrow(_ int, s *Sample) { s.GPUs[0].PCIeWidth = new(8) }

func xid(code int64, from int) func(int, *Sample) {
	return func(i int, s *Sample) {
		if i >= from {
			s.GPUs[0].LastXID = &code
		}
	}
}

// What cannot be read is neither good nor bad, and is named.
func TestUnjudged(t *testing.T) {
	t.Parallel()
	codes := func(v Verdict) map[string]string {
		named := map[string]string{}
		for _, u := range v.Unjudged {
			named[u.Code] = u.Reason
		}
		return named
	}
	t.Run("the run has not ended", func(t *testing.T) {
		t.Parallel()
		e := run{gpus: 1, seconds: 60}.evidence()
		e.End = nil
		v := Decide(e, Judges(DefaultRules())...)
		require.Equal(t, "Machine: unjudged - the state at the end is missing", v.Line())
	})
	t.Run("a restart of the machine resets counters", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 1, seconds: 60, end: func(s *State) { s.BootID = "other" }})
		require.Contains(t, codes(v)["hw_thermal"], "restarted")
		require.Contains(t, codes(v)["steal"], "restarted")
	})
	t.Run("a driver that is loaded again resets counters", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 1, seconds: 60, end: func(s *State) { s.GPUs[0].HWThermal = new(time.Duration(0)) }})
		require.Contains(t, codes(v)["hw_thermal"], "reset")
		require.Equal(t, Valid, v.Grade)
	})
	t.Run("GPUs without counters", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 1, seconds: 60, start: func(s *State) {
			s.GPUs, s.Gaps = nil, []Gap{{What: "gpu_counters", Reason: "no answer in time"}}
		}})
		require.Equal(t, "Machine: unjudged - the GPUs' counters could not be read", v.Line())
	})
	t.Run("a GPU that is exchanged or gone", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 2, seconds: 60, end: func(s *State) {
			s.GPUs[0].UUID = "z"
			s.GPUs = s.GPUs[:1]
		}})
		var seen []string
		for _, u := range v.Unjudged {
			if u.Code == "hw_thermal" {
				seen = append(seen, u.Reason)
			}
		}
		require.Equal(t, []string{"the GPU is not the one of the start", "the GPU could not be read at the end"}, seen)
	})
	t.Run("short runs", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 1, seconds: 20})
		require.Contains(t, codes(v)["sm_clock_spread"], "too short to judge")
		require.Equal(t, Valid, v.Grade)
	})
	t.Run("energy that does not agree", func(t *testing.T) {
		t.Parallel()
		v := decide(run{gpus: 1, seconds: 60, end: func(s *State) { s.GPUs[0].EnergyJ = new(1000 + 1.2*600*60) }})
		require.Contains(t, codes(v)["energy"], "the counter says 4.32e+04 J, and the samples 3.6e+04 J")
		require.NotContains(t, codes(decide(run{gpus: 1, seconds: 60})), "energy")
	})
}

// An agent that was away for most of the run loses samples, but not the verdict.
func TestVerdictWithoutMostSamples(t *testing.T) {
	t.Parallel()
	v := decide(run{gpus: 1, seconds: 600,
		sample: func(i int, s *Sample) {
			if i > 20 && i < 590 {
				*s = Sample{}
			}
		},
		end: func(s *State) { s.GPUs[0].HWThermal = new(time.Minute + 30*time.Second) },
	})
	require.Equal(t, "Machine: INVALID - hardware thermal slowdown for 5% of 600 s on GPU 0", v.Line())
	require.Equal(t, "samples_missing", v.Reasons[1].Code)
	require.Equal(t, "there are no samples for 95% of 600 s", v.Reasons[1].Text)
	require.Equal(t, Info, v.Reasons[1].Severity)
}

// The share of a throttled time refers to the time in which the GPU was busy.
func TestShareOfBusyTime(t *testing.T) {
	t.Parallel()
	v := decide(run{gpus: 1, seconds: 1000,
		sample: func(i int, s *Sample) {
			if i > 100 {
				s.GPUs[0].UtilizationPct = new(3.0)
			}
		},
		end: func(s *State) { s.GPUs[0].SWThermal = new(time.Minute + 4*time.Second) },
	})
	require.Equal(t, "Machine: WARNING - thermal slowdown by the driver for 3.96% of 101 s on GPU 0", v.Line())
}

func TestLimitsAreSettings(t *testing.T) {
	t.Parallel()
	rules, err := SetLimits(DefaultRules(), map[string]Limit{"sw_thermal": limits(10, 20), "persistence_off": {}})
	require.NoError(t, err)
	e := run{gpus: 1, seconds: 100,
		start: func(s *State) { s.GPUs[0].Persistence = new(false) },
		end:   func(s *State) { s.GPUs[0].SWThermal = new(time.Minute + 9*time.Second) },
	}.evidence()
	require.Equal(t, "Machine: valid", Decide(e, Judges(rules)...).Line())
	require.Equal(t, Invalid, Decide(e, Judges(DefaultRules())...).Grade, "the defaults are as before")
	_, err = SetLimits(DefaultRules(), map[string]Limit{"sw_termal": {}, "x": {}})
	require.EqualError(t, err, "integrity: there is no rule sw_termal, x")
}

func TestRulesAreDocumented(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range DefaultRules() {
		require.NotEmpty(t, r.Why, r.Code)
		require.Contains(t, []string{"%", "count", "s"}, r.Unit, r.Code)
		require.False(t, seen[r.Code], r.Code)
		seen[r.Code] = true
		require.Empty(t, r.Judge(&Evidence{}).Reasons, "%s: without evidence there is no reason", r.Code)
	}
}

// Whatever is missing, there is a verdict, and it does not come from what is missing.
func TestMissingFiguresNeverMakeAVerdictWorse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, 1))
		forget := func(s *State) {
			for i := range s.GPUs {
				g := &s.GPUs[i]
				for _, f := range []func(){
					func() { g.HWThermal, g.UUID = nil, "" }, func() { g.EnergyJ, g.ECC = nil, nil }, func() { g.PowerLimitW = nil },
					func() { g.Persistence, g.MaxPCIeWidth = nil, nil }, func() { g.RemapFailed, g.ComputeMode = nil, "" },
				} {
					if random.IntN(2) == 0 {
						f()
					}
				}
			}
			if random.IntN(3) == 0 {
				s.Host = HostState{}
			}
			if random.IntN(3) == 0 && len(s.GPUs) > 0 {
				s.GPUs = s.GPUs[1:]
			}
		}
		v := decide(run{gpus: 3, seconds: 60, start: forget, sample: func(i int, s *Sample) {
			if random.IntN(2) == 0 {
				s.GPUs[0] = hwdetect.GPUTelemetry{}
			}
			if random.IntN(4) == 0 {
				s.Uptime = nil
			}
		}})
		require.Contains(t, []Grade{Valid, Unjudged}, v.Grade, "%+v", v.Reasons)
	})
}

// A run of ten hours needs no more memory than a short one.
func TestSummaryHasAFixedSize(t *testing.T) {
	t.Parallel()
	var s Summary
	add := func(from, to int) {
		for i := from; i < to; i++ {
			at := time.Duration(i*4) * time.Second // each one is a gap
			sample := fullSample(noon.Add(at), 8)
			sample.Uptime = new(time.Hour + at)
			for g := range sample.GPUs {
				sample.GPUs[g].SMClockMHz = new(i % maxClockMHz)
				sample.GPUs[g].LastXID = new(int64(i))
				sample.GPUs[g].ThrottleReasons = hwdetect.ThrottleReasons(1 << (i % 64))
			}
			s.Add(sample)
		}
	}
	add(0, 36_000)
	s.Finish()
	require.Len(t, s.Gaps, maxGaps)
	require.Equal(t, 36_000, s.Count)
	for _, g := range s.GPUs {
		require.LessOrEqual(t, len(g.sm.counts), maxClocks)
		require.LessOrEqual(t, len(g.XIDs), maxXIDs)
		require.LessOrEqual(t, len(g.ThrottleReasons), maxReason)
	}
}

// The samples of a machine without GPUs are a list without elements in JSON, not null.
func TestNoGPUsInJSON(t *testing.T) {
	t.Parallel()
	var s Summary
	s.Finish()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(text), `"gpus":[]`)
}
