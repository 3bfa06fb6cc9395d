package hwdetect

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// parseSMITable reads the answer to smiQuery or smiOldQuery. Lines that are no
// GPU, such as warnings, are passed over.
func parseSMITable(out []byte) Inventory {
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
			Model:       smiWord(f[1]),
			UUID:        smiWord(f[2]),
			PCIBus:      BusAddress(smiWord(f[3])),
			PowerLimitW: smiFloat(f[5]),
		}
		if inv.DriverVersion == "" {
			inv.DriverVersion = smiWord(f[6])
		}
		if len(f) >= 9 {
			g.ComputeCapability = smiWord(f[7])
			if mode := smiWord(f[8]); mode != "" {
				g.MIG = &MIG{Enabled: mode == "Enabled"}
			}
		}
		g.smiMemory(f[4])
		if g.MemoryBytes == 0 && !g.Unified {
			inv.Gaps = append(inv.Gaps, Gap{What: "memory_bytes", Reason: "nvidia-smi gives " + strings.TrimSpace(f[4]) + " for GPU " + strconv.Itoa(index)})
		}
		inv.GPUs = append(inv.GPUs, g)
	}
	return inv
}

// smiMemory sets the memory from a text such as "81559" or "81559 MiB". "[N/A]"
// and its older forms mean that the GPU has none of its own, if it is of the
// kind that has none.
func (g *GPU) smiMemory(text string) {
	g.MemoryBytes = smiBytes(text)
	if g.MemoryBytes == 0 && smiNotSupported(text) && (g.MIG == nil || !g.MIG.Enabled) {
		g.Unified = IntegratedGPU(g.Model, g.ComputeCapability)
	}
}

// smiBytes reads a number of MiB, with or without the unit.
func smiBytes(text string) int64 {
	mib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " MiB"), 10, 64)
	if err != nil || mib < 0 || mib > 1<<40 {
		return 0
	}
	return mib << 20
}

// smiFloat reads a number with or without a unit behind it, or returns 0.
func smiFloat(text string) float64 {
	f, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	v, err := strconv.ParseFloat(f, 64)
	if err != nil || v < 0 || v > 1e12 {
		return 0
	}
	return v
}

// smiNotSupported reports whether text is how nvidia-smi says that a GPU does
// not have something. "[Unknown Error]", "[GPU is lost]" and the like say
// something else.
func smiNotSupported(text string) bool {
	switch strings.Trim(strings.TrimSpace(text), "[]") {
	case "N/A", "Not Supported", "Not Available":
		return true
	}
	return false
}

// smiWord returns text, or nothing where nvidia-smi put a placeholder.
func smiWord(text string) string {
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

// parseSMIList reads `nvidia-smi -L` and returns the MIG slices by the UUID of
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
// 1g.10gb. It returns 0 for a text that is no profile.
func ProfileMemory(profile string) int64 {
	_, rest, ok := strings.Cut(profile, "g.")
	gb := number(rest)
	if !ok || gb > 1<<20 {
		return 0
	}
	return gb << 30
}

var terminalCodes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// parseSMITopology reads `nvidia-smi topo -m` and returns for each GPU those it
// is joined to by NVLink (cells NV1, NV2, …).
func parseSMITopology(out []byte) map[int][]int {
	peers := make(map[int][]int)
	for line := range strings.Lines(terminalCodes.ReplaceAllString(string(out), "")) {
		cells := strings.Fields(line)
		if len(cells) < 2 {
			continue
		}
		name, isRow := strings.CutPrefix(cells[0], "GPU")
		gpu, err := strconv.Atoi(name)
		if !isRow || err != nil || strings.HasPrefix(cells[1], "GPU") { // the head names columns
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
