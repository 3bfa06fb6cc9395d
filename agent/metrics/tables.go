package metrics

import (
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// A table is a metric that is read from a Status.
type table struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s snapshot, emit emitter)
}

// An emitter takes one sample, with the values of its labels.
type emitter func(value float64, labels ...string)

func gauge(name, help string, read func(snapshot, emitter), labels ...string) table {
	return table{prometheus.NewDesc(namespace+"_"+name, help, labels, nil), prometheus.GaugeValue, read}
}

func counter(name, help string, read func(snapshot, emitter), labels ...string) table {
	return table{prometheus.NewDesc(namespace+"_"+name, help, labels, nil), prometheus.CounterValue, read}
}

// one reads a metric without labels.
func one(value func(snapshot) float64) func(snapshot, emitter) {
	return func(s snapshot, emit emitter) { emit(value(s)) }
}

// at reads a time. One that never came has no sample.
func at(value func(snapshot) time.Time) func(snapshot, emitter) {
	return func(s snapshot, emit emitter) {
		if t := value(s); !t.IsZero() {
			emit(seconds(t))
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

const gib = 1 << 30

// tables returns all metrics that are read from a Status.
func tables() []table {
	return slices.Concat(agentTables(), jobTables(), gpuTables(), gpuCounterTables())
}

func agentTables() []table {
	return []table{
		gauge("build_info", "The agent's version. The value is always 1.", func(s snapshot, emit emitter) {
			emit(1, s.Version, runtime.Version())
		}, "version", "goversion"),
		gauge("start_time_seconds", "When the agent was started, in seconds since 1970.",
			at(func(s snapshot) time.Time { return s.StartedAt })),
		gauge("ready", "Whether the agent can take work from its server.",
			one(func(s snapshot) float64 {
				_, blocked := health.Blocking(s.Problems)
				return truth(!blocked)
			})),
		gauge("degraded", "Whether this is wrong with the agent; kitt-agent status has the details and the remedy.",
			func(s snapshot, emit emitter) {
				applies := map[health.Reason]bool{}
				for _, p := range s.Problems {
					applies[p.Reason] = true
				}
				for _, row := range health.Table() {
					emit(truth(applies[row.Reason]), string(row.Reason))
					delete(applies, row.Reason)
				}
				for reason := range applies { // of the embedding program
					emit(1, string(reason))
				}
			}, "reason"),
		gauge("warnings", "Warnings that kitt-agent status shows.",
			one(func(s snapshot) float64 { return float64(len(s.Warnings)) })),

		gauge("server_registered", "Whether the server has accepted the agent since it was started.",
			one(func(s snapshot) float64 { return truth(s.Server.Registered) })),
		gauge("server_last_contact_timestamp_seconds", "When the server last accepted a heartbeat, in seconds since 1970.",
			at(func(s snapshot) time.Time { return s.Server.LastBeat })),
		gauge("heartbeat_interval_seconds", "Time between heartbeats while no benchmark runs.",
			one(func(s snapshot) float64 { return s.Server.IntervalS })),
		counter("heartbeats_total", "Heartbeats and registrations, by what became of them: accepted or refused by the server, or failed to reach it.",
			func(s snapshot, emit emitter) {
				emit(float64(s.Server.BeatsAccepted), "accepted")
				emit(float64(s.Server.BeatsRefused), "refused")
				emit(float64(s.Server.BeatsFailed), "failed")
			}, "result"),

		gauge("store_models", "Models that the agent keeps on local disk.",
			one(func(s snapshot) float64 { return float64(s.Storage.ModelCount) })),
		gauge("store_disk_free_bytes", "Space that is free on the disk that models are kept on.",
			one(func(s snapshot) float64 { return s.Storage.FreeGB * gib })),
		gauge("store_disk_used_bytes", "Space in use on the disk that models are kept on.",
			one(func(s snapshot) float64 { return s.Storage.UsedGB * gib })),
	}
}

func jobTables() []table {
	return []table{
		gauge("jobs", "Jobs that have not ended, by state.", func(s snapshot, emit emitter) {
			count := map[agent.State]int{agent.StateAccepted: s.Waiting}
			for _, j := range s.Jobs {
				if j.State != agent.StateAccepted {
					count[j.State]++
				}
			}
			for _, state := range []agent.State{agent.StateAccepted, agent.StatePreparing, agent.StateRunning, agent.StateFinishing} {
				emit(float64(count[state]), string(state))
			}
		}, "state"),
		gauge("jobs_blocked", "Jobs that hold a slot and cannot start now, such as while the container engine does not answer.",
			one(func(s snapshot) float64 {
				n := 0
				for _, j := range s.Jobs {
					n += int(truth(j.WaitingFor != ""))
				}
				return float64(n)
			})),
		gauge("log_followers", "Readers that follow the log of a job.",
			one(func(s snapshot) float64 { return float64(s.ActiveStreams) })),
		gauge("undelivered_jobs", "Ended jobs whose reports the server has not all accepted.",
			one(func(s snapshot) float64 { return float64(s.Undelivered) })),
		gauge("undelivered_bytes", "Size on disk of the logs and results of these jobs.",
			one(func(s snapshot) float64 { return float64(s.UndeliveredBytes) })),
		gauge("undelivered_oldest_timestamp_seconds", "When the first of these jobs ended, in seconds since 1970. Absent if there is none.",
			at(func(s snapshot) time.Time { return s.UndeliveredSince })),
	}
}

// telemetryMaxAge is the age from which a reading of the GPUs is not exported: the agent
// reads them every 30 s, and one that no longer answers has no values.
const telemetryMaxAge = 2 * time.Minute

// gpuTables are read from the agent's latest telemetry.
func gpuTables() []table {
	// each reads one value of each GPU, and leaves out those that could not be read.
	each := func(value func(g hwdetect.GPUTelemetry) (v float64, known bool)) func(snapshot, emitter) {
		return func(s snapshot, emit emitter) {
			for _, g := range recent(s.Telemetry) {
				if v, known := value(g); known {
					emit(v, strconv.Itoa(g.Index))
				}
			}
		}
	}
	const gpu = "gpu"
	return []table{
		gauge("gpu_telemetry_timestamp_seconds", "When the GPUs were last read, in seconds since 1970.",
			at(func(s snapshot) time.Time { return s.Telemetry.Time })),
		gauge("gpu_utilization_ratio", "Share of time in which the GPU was in use, from 0 to 1.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.UtilizationPct, 0.01) }), gpu),
		gauge("gpu_memory_used_bytes", "Memory of the GPU in use.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.MemoryUsedBytes, 1) }), gpu),
		gauge("gpu_power_watts", "Power that the GPU draws.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.PowerW, 1) }), gpu),
		gauge("gpu_temperature_celsius", "Temperature of the GPU.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.TemperatureC, 1) }), gpu),
		gauge("gpu_memory_temperature_celsius", "Temperature of the GPU's memory.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.MemoryTemperatureC, 1) }), gpu),
		gauge("gpu_sm_clock_hertz", "Clock of the GPU's processors.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.SMClockMHz, 1e6) }), gpu),
		gauge("gpu_memory_clock_hertz", "Clock of the GPU's memory.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.MemoryClockMHz, 1e6) }), gpu),
		counter("gpu_ecc_uncorrected_errors_total", "Memory errors that could not be corrected, since the driver was loaded.",
			each(func(g hwdetect.GPUTelemetry) (float64, bool) { return scaled(g.ECCUncorrected, 1) }), gpu),
		gauge("gpu_throttled", "Whether the GPU's clocks were reduced for this reason when it was last read, by nvidia-smi's names.",
			func(s snapshot, emit emitter) {
				for _, g := range recent(s.Telemetry) {
					if g.ThrottleReasons == nil {
						continue
					}
					for _, reason := range throttleReasons {
						emit(truth(slices.Contains(g.ThrottleReasons, reason)), strconv.Itoa(g.Index), reason)
					}
				}
			}, gpu, "reason"),
	}
}

// gpuCounterTables are read from the agent's latest counters, and from the machine's
// description. The driver counts since it was loaded.
func gpuCounterTables() []table {
	each := func(value func(g hwdetect.GPUCounters) (v float64, known bool)) func(snapshot, emitter) {
		return func(s snapshot, emit emitter) {
			for _, g := range recentCounters(s.counters) {
				if v, known := value(g); known {
					emit(v, strconv.Itoa(g.Index))
				}
			}
		}
	}
	const gpu = "gpu"
	return []table{
		gauge("gpu_info", "The GPU's name and UUID. The value is always 1.", func(s snapshot, emit emitter) {
			for _, g := range gpusOf(s.machine) {
				emit(1, strconv.Itoa(g.Index), g.Model, g.UUID)
			}
		}, gpu, "name", "uuid"),
		gauge("gpu_memory_bytes", "Size of the GPU's memory.", func(s snapshot, emit emitter) {
			for _, g := range gpusOf(s.machine) {
				if g.MemoryBytes > 0 {
					emit(float64(g.MemoryBytes), strconv.Itoa(g.Index))
				}
			}
		}, gpu),
		counter("gpu_energy_joules_total", "Energy that the GPU has taken.",
			each(func(g hwdetect.GPUCounters) (float64, bool) { return scaled(g.EnergyJ, 1) }), gpu),
		counter("gpu_throttled_seconds_total", "Time in which the GPU's clocks were reduced, by reason.",
			func(s snapshot, emit emitter) {
				for _, g := range recentCounters(s.counters) {
					for _, r := range []struct {
						reason string
						time   *time.Duration
					}{
						{"power_cap", g.PowerCap}, {"sync_boost", g.SyncBoost}, {"sw_thermal", g.SWThermal},
						{"hw_thermal", g.HWThermal}, {"hw_power_brake", g.HWPowerBrake},
					} {
						if r.time != nil {
							emit(r.time.Seconds(), strconv.Itoa(g.Index), r.reason)
						}
					}
				}
			}, gpu, "reason"),
		gauge("gpu_power_limit_watts", "Power that the GPU is limited to.",
			each(func(g hwdetect.GPUCounters) (float64, bool) { return scaled(g.PowerLimitW, 1) }), gpu),
		counter("gpu_ecc_corrected_errors_total", "Memory errors that were corrected.",
			each(func(g hwdetect.GPUCounters) (float64, bool) { return scaled(g.ECCCorrected, 1) }), gpu),
		counter("gpu_pcie_replays_total", "Transfers over PCIe that were repeated.",
			each(func(g hwdetect.GPUCounters) (float64, bool) { return scaled(g.PCIeReplays, 1) }), gpu),
		counter("gpu_nvlink_errors_total", "Errors of all NVLinks of the GPU.",
			each(func(g hwdetect.GPUCounters) (float64, bool) { return scaled(g.NVLinkErrors, 1) }), gpu),
	}
}

// recentCounters returns counters of GPUs that are not too old.
func recentCounters(c hwdetect.Counters) []hwdetect.GPUCounters {
	if time.Since(c.Time) > telemetryMaxAge {
		return nil
	}
	return c.GPUs
}

func gpusOf(m *hwdetect.Machine) []hwdetect.GPU {
	if m == nil {
		return nil
	}
	return m.GPUs
}

// throttleReasons are those that are exported, also while they do not apply.
var throttleReasons = []string{"sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}

// recent returns the readings of GPUs that are not too old.
func recent(t hwdetect.Telemetry) []hwdetect.GPUTelemetry {
	if time.Since(t.Time) > telemetryMaxAge {
		return nil
	}
	return t.GPUs
}

// scaled returns a reading in base units, and whether there is one.
func scaled[T int | int64 | float64](v *T, factor float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v) * factor, true
}
