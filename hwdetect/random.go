package hwdetect

import (
	"fmt"
	"math/rand/v2"
)

// Random returns a plausible machine: one of the [Profiles] with a random choice
// of the GPU counts, memory sizes and disks that such machines have. The same
// seed gives the same machine. GPUs of different seeds have different UUIDs.
func Random(seed uint64) *Machine {
	r := rand.New(rand.NewPCG(seed, 0x6b697474))
	p := profiles[r.IntN(len(profiles))]
	kind, _ := LookupGPUModel(p.gpu)
	switch {
	case p.gpus == 0, kind.Unified, len(p.mig) > 0, p.environment == "wsl2", p.cpu == grace:
	case kind.NVLink:
		p.gpus = []int{1, 2, 4, 8}[r.IntN(4)]
		if p.gpus < 8 {
			p.environment = "native_linux" // a DGX has all eight
		}
	default:
		p.gpus = []int{1, 1, 2, 4}[r.IntN(4)]
	}
	if !kind.Unified && p.cpu != grace && p.environment != "dgx" {
		// Half, the same or twice the memory, less what the kernel reserves.
		size := (p.memory + gib) << r.IntN(3) >> 1
		p.memory = size - size/64
	}
	if disks := []Storage{u2Samsung, u2Kioxia, m2Samsung, m2SN850}; p.environment == "native_linux" {
		p.disk = disks[r.IntN(len(disks))]
	}
	m := p.machine(r.Uint64())
	m.Hostname = fmt.Sprintf("%s-%04x", p.name, r.Uint32()&0xffff)
	return m
}

// uuid returns a version 4 UUID that depends only on a and b.
func uuid(a, b uint64) string {
	r := rand.New(rand.NewPCG(a, b))
	hi, lo := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xfff, 0x8000|lo>>48&0x3fff, lo&0xffffffffffff)
}
