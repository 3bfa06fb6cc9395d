package hwdetect

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// parseSMICSV parses the answer to smiQuery or smiOldQuery. It skips lines that
// don't describe a GPU, such as warnings.
func parseSMICSV(out []byte) Inventory {
	var inv Inventory
	r := csv.NewReader(bytes.NewReader(out))
	r.TrimLeadingSpace, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
	for {
		f, err := r.Read()
		if err != nil && f == nil {
			break
		}
		if len(f) < 7 {
			continue
		}
		index, err := strconv.Atoi(strings.TrimSpace(f[0]))
		if err != nil || index < 0 {
			continue
		}
		g := GPU{
			Index:       index,
			Model:       smiText(f[1]),
			UUID:        smiText(f[2]),
			PCIBus:      BusAddress(smiText(f[3])),
			PowerLimitW: smiFloat(f[5]),
		}
		if inv.DriverVersion == "" {
			inv.DriverVersion = smiText(f[6])
		}
		if len(f) >= 9 {
			g.ComputeCapability = smiText(f[7])
			if mode := smiText(f[8]); mode != "" {
				g.MIG = &MIG{Enabled: mode == "Enabled"}
			}
		}
		g.smiMemory(f[4])
		if g.MemoryBytes == 0 && !g.Unified {
			inv.Gaps = append(inv.Gaps, Gap{What: "memory_bytes", Reason: "nvidia-smi reports " + strings.TrimSpace(f[4]) + " for GPU " + strconv.Itoa(index)})
		}
		inv.GPUs = append(inv.GPUs, g)
	}
	return inv
}

// smiMemory sets the memory from a text such as "81559" or "81559 MiB". "[N/A]"
// and its older forms mean unified memory if the GPU is an integrated one.
func (g *GPU) smiMemory(text string) {
	g.MemoryBytes = smiBytes(text)
	if g.MemoryBytes == 0 && smiNotSupported(text) && (g.MIG == nil || !g.MIG.Enabled) {
		g.Unified = IntegratedGPU(g.Model, g.ComputeCapability)
	}
}

// smiBytes parses a number of MiB, with or without the unit, or returns 0.
func smiBytes(text string) int64 {
	mib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " MiB"), 10, 64)
	if err != nil || mib < 0 || mib > 1<<40 {
		return 0
	}
	return mib << 20
}

// smiFloat parses a number that a unit may follow, or returns 0.
func smiFloat(text string) float64 {
	f, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	v, err := strconv.ParseFloat(f, 64)
	if err != nil || v < 0 || v > 1e12 {
		return 0
	}
	return v
}

// smiNotSupported reports whether text means that the GPU lacks a feature.
// "[Unknown Error]", "[GPU is lost]" and the like are failures instead.
func smiNotSupported(text string) bool {
	switch strings.Trim(strings.TrimSpace(text), "[]") {
	case "N/A", "Not Supported", "Not Available":
		return true
	}
	return false
}

// smiText returns text, or an empty string if it is a placeholder.
func smiText(text string) string {
	text = strings.TrimSpace(text)
	if smiNotSupported(text) || strings.HasPrefix(text, "[") || text == "ERR!" {
		return ""
	}
	return text
}

var (
	smiListGPU = regexp.MustCompile(`^GPU \d+: .*\(UUID: (GPU-[^)]+)\)`)
	smiListMIG = regexp.MustCompile(`^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)`)
)

// parseSMIList parses `nvidia-smi -L` and returns the MIG slices by the UUID of
// their GPU.
func parseSMIList(out []byte) map[string][]MIGInstance {
	found := make(map[string][]MIGInstance)
	var gpu string
	for line := range strings.Lines(string(out)) {
		if m := smiListGPU.FindStringSubmatch(line); m != nil {
			gpu = m[1]
		} else if m := smiListMIG.FindStringSubmatch(line); m != nil && gpu != "" {
			found[gpu] = append(found[gpu], MIGInstance{Profile: m[1], UUID: m[2], MemoryBytes: ProfileMemory(m[1])})
		}
	}
	return found
}

// ProfileMemory returns the nominal memory of a MIG profile in bytes: 10 GiB for
// 1g.10gb. It returns 0 if profile is not the name of one.
func ProfileMemory(profile string) int64 {
	_, rest, ok := strings.Cut(profile, "g.")
	gb := number(rest)
	if !ok || gb > 1<<20 {
		return 0
	}
	return gb << 30
}

var terminalCodes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// parseSMITopology parses `nvidia-smi topo -m` and returns the NVLink peers of
// each GPU (cells NV1, NV2, …).
func parseSMITopology(out []byte) map[int][]int {
	peers := make(map[int][]int)
	for line := range strings.Lines(terminalCodes.ReplaceAllString(string(out), "")) {
		cells := strings.Fields(line)
		if len(cells) < 2 {
			continue
		}
		name, isRow := strings.CutPrefix(cells[0], "GPU")
		gpu, err := strconv.Atoi(name)
		if !isRow || err != nil || strings.HasPrefix(cells[1], "GPU") { // the header
			continue
		}
		for column, cell := range cells[1:] {
			digits, linked := strings.CutPrefix(cell, "NV")
			if _, err := strconv.Atoi(digits); linked && err == nil && !slices.Contains(peers[gpu], column) {
				peers[gpu] = append(peers[gpu], column)
			}
		}
	}
	return peers
}
