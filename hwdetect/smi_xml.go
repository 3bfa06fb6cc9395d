package hwdetect

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// smiLog is the part of `nvidia-smi -q -x` that is used. Where newer drivers
// renamed an element, it has a field for each name.
type smiLog struct {
	Driver string   `xml:"driver_version"`
	CUDA   string   `xml:"cuda_version"`
	GPUs   []smiGPU `xml:"gpu"`
}

type smiGPU struct {
	ID      string    `xml:"id,attr"`
	Name    string    `xml:"product_name"`
	UUID    string    `xml:"uuid"`
	Memory  smiMemory `xml:"fb_memory_usage"`
	MIG     string    `xml:"mig_mode>current_mig"`
	Devices []struct {
		Memory smiMemory `xml:"fb_memory_usage"`
	} `xml:"mig_devices>mig_device"`
	Utilization string     `xml:"utilization>gpu_util"`
	Temperature string     `xml:"temperature>gpu_temp"`
	Power       smiPower   `xml:"gpu_power_readings"`
	OldPower    smiPower   `xml:"power_readings"`
	Reasons     smiReasons `xml:"clocks_event_reasons"`
	OldReasons  smiReasons `xml:"clocks_throttle_reasons"`
	ECC         struct {
		DRAM  string `xml:"dram_uncorrectable"`
		SRAM  string `xml:"sram_uncorrectable"`
		SRAMp string `xml:"sram_uncorrectable_parity"`
		SRAMs string `xml:"sram_uncorrectable_secded"`
	} `xml:"ecc_errors>volatile"`
	Processes []struct {
		Memory string `xml:"used_memory"`
	} `xml:"processes>process_info"`
}

type smiMemory struct {
	Total string `xml:"total"`
	Used  string `xml:"used"`
}

type smiPower struct {
	Draw    string `xml:"power_draw"`
	Instant string `xml:"instant_power_draw"`
	Average string `xml:"average_power_draw"`
	Limit   string `xml:"current_power_limit"`
	Old     string `xml:"power_limit"`
}

type smiReasons struct {
	All []struct {
		XMLName xml.Name
		Value   string `xml:",chardata"`
	} `xml:",any"`
}

// parseSMIXML parses the output of `nvidia-smi -q -x`.
func parseSMIXML(out []byte) (smiLog, error) {
	var log smiLog
	d := xml.NewDecoder(bytes.NewReader(out))
	d.Strict = false // it has a DTD and, in some versions, an unusual encoding
	if err := d.Decode(&log); err != nil {
		return smiLog{}, fmt.Errorf("parse the output of nvidia-smi -q -x: %w", err)
	}
	return log, nil
}

// hasFault reports whether out, the output of a failed nvidia-smi, means that an
// installed GPU cannot be used.
func hasFault(out []byte) bool {
	for _, word := range []string{"lost", "mismatch", "requires reset", "Unknown Error", "fallen off"} {
		if bytes.Contains(out, []byte(word)) {
			return true
		}
	}
	return false
}

func (l smiLog) inventory() Inventory {
	inv := Inventory{DriverVersion: smiText(l.Driver), CUDADriver: smiText(l.CUDA)}
	for i, x := range l.GPUs {
		g := GPU{Index: i, Model: smiText(x.Name), UUID: smiText(x.UUID), PCIBus: BusAddress(x.ID)}
		if mode := smiText(x.MIG); mode != "" {
			g.MIG = &MIG{Enabled: mode == "Enabled"}
			for _, d := range x.Devices {
				g.MIG.Instances = append(g.MIG.Instances, MIGInstance{MemoryBytes: smiBytes(d.Memory.Total)})
			}
		}
		g.smiMemory(x.Memory.Total)
		for _, p := range []smiPower{x.Power, x.OldPower} {
			for _, text := range []string{p.Limit, p.Old} {
				if g.PowerLimitW == 0 {
					g.PowerLimitW = smiFloat(text)
				}
			}
		}
		inv.GPUs = append(inv.GPUs, g)
	}
	return inv
}

func (l smiLog) telemetry() Telemetry {
	var t Telemetry
	for i, x := range l.GPUs {
		r := GPUTelemetry{
			Index:          i,
			UtilizationPct: smiReading(x.Utilization),
			TemperatureC:   smiReading(x.Temperature),
			PowerW:         smiReading(x.Power.Instant, x.Power.Draw, x.Power.Average, x.OldPower.Draw),
		}
		if text := strings.TrimSpace(x.Memory.Used); smiText(text) != "" {
			used := smiBytes(text)
			r.MemoryUsedBytes = &used
		} else if smiNotSupported(text) && IntegratedGPU(x.Name, "") && x.MIG != "Enabled" {
			var used int64
			for _, p := range x.Processes {
				used += smiBytes(p.Memory)
			}
			r.MemoryUsedBytes = &used
		}
		for _, reason := range slices.Concat(x.Reasons.All, x.OldReasons.All) {
			name := reason.XMLName.Local
			name = strings.TrimPrefix(strings.TrimPrefix(name, "clocks_event_reason_"), "clocks_throttle_reason_")
			if strings.TrimSpace(reason.Value) == "Active" && name != "gpu_idle" {
				r.ThrottleReasons = append(r.ThrottleReasons, name)
			}
		}
		for _, text := range []string{x.ECC.DRAM, x.ECC.SRAM, x.ECC.SRAMp, x.ECC.SRAMs} {
			if v := smiReading(text); v != nil {
				if r.ECCUncorrected == nil {
					r.ECCUncorrected = new(int64)
				}
				*r.ECCUncorrected += int64(*v)
			}
		}
		t.GPUs = append(t.GPUs, r)
	}
	return t
}

// smiReading returns the first of texts that is a number.
func smiReading(texts ...string) *float64 {
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" && text[0] >= '0' && text[0] <= '9' {
			v := smiFloat(text)
			return &v
		}
	}
	return nil
}
