package hwdetect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A RunFunc runs nvidia-smi with args and returns its output. If the exit status
// is not 0 it returns both the output and an error. The error matches [ErrAbsent]
// if there is no such program. It must be safe for concurrent use.
type RunFunc func(ctx context.Context, args ...string) ([]byte, error)

// The arguments of nvidia-smi. `nvidia-smi --help-query-gpu` lists the fields.
var (
	smiQuery = []string{"--query-gpu=index,name,uuid,pci.bus_id,memory.total,power.limit,driver_version,compute_cap,mig.mode.current", "--format=csv,noheader,nounits"}
	// Drivers before 510 reject the whole query because of compute_cap.
	smiOldQuery = []string{"--query-gpu=index,name,uuid,pci.bus_id,memory.total,power.limit,driver_version", "--format=csv,noheader,nounits"}
	smiXML      = []string{"-q", "-x"}
	smiList     = []string{"-L"}
	smiTopology = []string{"topo", "-m"}
)

// smi is the source that runs nvidia-smi.
type smi struct{ run RunFunc }

// Name returns "nvidia-smi".
func (s smi) Name() string { return "nvidia-smi" }

// Inventory queries the GPUs in two formats concurrently and merges the answers:
// CSV, which all versions print in the same form, and XML, which has the CUDA
// version.
func (s smi) Inventory(ctx context.Context) (Inventory, error) {
	var inv, fromXML Inventory
	var csvErr, xmlErr error
	var both sync.WaitGroup
	both.Go(func() { inv, csvErr = s.queryCSV(ctx) })
	both.Go(func() { fromXML, xmlErr = s.queryXML(ctx) })
	both.Wait()
	if csvErr != nil && xmlErr != nil {
		return Inventory{}, csvErr
	}
	if csvErr != nil && len(inv.GPUs) == 0 {
		inv = fromXML
	} else {
		inv.add(fromXML)
	}
	s.addMIG(ctx, &inv)
	s.addNVLink(ctx, &inv)
	return inv, nil
}

// output runs nvidia-smi and returns its output. If it fails, the error has the
// line in which nvidia-smi explains why.
func (s smi) output(ctx context.Context, args ...string) ([]byte, error) {
	out, err := s.run(ctx, args...)
	switch {
	case err == nil, errors.Is(err, ErrAbsent):
		return out, err
	case ctx.Err() != nil:
		return out, fmt.Errorf("nvidia-smi hangs: %w", context.Cause(ctx))
	}
	return out, errors.New(smiErrorLine(out, err))
}

func (s smi) queryCSV(ctx context.Context) (Inventory, error) {
	out, err := s.output(ctx, smiQuery...)
	if err != nil && bytes.Contains(out, []byte("not a valid field")) {
		out, err = s.output(ctx, smiOldQuery...)
	}
	inv := parseSMICSV(out)
	if len(inv.GPUs) > 0 && err != nil {
		// Some GPUs answered and at least one did not.
		inv.Gaps = append(inv.Gaps, Gap{What: "gpus", Reason: "nvidia-smi: " + err.Error()})
		err = nil
	}
	return inv, err
}

func (s smi) queryXML(ctx context.Context) (Inventory, error) {
	out, err := s.output(ctx, smiXML...)
	if err != nil {
		return Inventory{}, err
	}
	log, err := parseSMIXML(out)
	if err != nil {
		return Inventory{}, err
	}
	return log.inventory(), nil
}

// addMIG sets the profiles and UUIDs of MIG slices.
func (s smi) addMIG(ctx context.Context, inv *Inventory) {
	partitioned := false
	for _, g := range inv.GPUs {
		partitioned = partitioned || g.MIG != nil && g.MIG.Enabled
	}
	if !partitioned {
		return
	}
	out, err := s.output(ctx, smiList...)
	if err != nil {
		inv.Gaps = append(inv.Gaps, Gap{What: "mig", Reason: "nvidia-smi: " + err.Error()})
		return
	}
	slices := parseSMIList(out)
	for i := range inv.GPUs {
		g := &inv.GPUs[i]
		if g.MIG == nil || !g.MIG.Enabled {
			continue
		}
		found := slices[g.UUID]
		for j := range found {
			if j < len(g.MIG.Instances) {
				found[j].MemoryBytes = g.MIG.Instances[j].MemoryBytes
			}
		}
		g.MIG = &MIG{Enabled: true, Instances: found}
	}
}

// addNVLink sets which GPUs are connected by NVLink.
func (s smi) addNVLink(ctx context.Context, inv *Inventory) {
	if len(inv.GPUs) < 2 {
		return
	}
	out, err := s.output(ctx, smiTopology...)
	if err != nil {
		inv.Gaps = append(inv.Gaps, Gap{What: "nvlink_peers", Reason: "nvidia-smi: " + err.Error()})
		return
	}
	peers := parseSMITopology(out)
	for i := range inv.GPUs {
		inv.GPUs[i].NVLinkPeers = peers[inv.GPUs[i].Index]
	}
}

// Telemetry reads the GPUs through one run of nvidia-smi.
func (s smi) Telemetry(ctx context.Context) (Telemetry, error) {
	out, err := s.output(ctx, smiXML...)
	if errors.Is(err, ErrAbsent) {
		return Telemetry{}, err
	}
	now := time.Now()
	log, parseErr := parseSMIXML(out)
	t := log.telemetry()
	t.Time = now
	switch {
	case ctx.Err() != nil:
		return Telemetry{}, ctx.Err()
	case err != nil && hasFault(out):
		t.Fault = err.Error()
	case err != nil:
		return Telemetry{}, err
	case parseErr != nil:
		return Telemetry{}, parseErr
	}
	return t, nil
}

// maxSMIOutput is the most that is kept of nvidia-smi's output, in bytes. Sixteen
// GPUs with many processes give a few hundred KiB of XML.
const maxSMIOutput = 4 << 20

// runNVIDIASMI runs nvidia-smi from PATH or from where WSL2 installs it.
func runNVIDIASMI(ctx context.Context, args ...string) ([]byte, error) {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		path, err = exec.LookPath("/usr/lib/wsl/lib/nvidia-smi")
	}
	if err != nil {
		return nil, fmt.Errorf("no nvidia-smi in PATH: %w", ErrAbsent)
	}
	out := limitedBuffer{left: maxSMIOutput}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 100 * time.Millisecond
	err = cmd.Run()
	return out.kept, err
}

// smiErrorLine returns the line of nvidia-smi's output that explains its failure,
// or the text of err. Lines about the GPUs that did answer may precede it.
func smiErrorLine(out []byte, err error) string {
	for line := range strings.Lines(string(out)) {
		for _, word := range []string{"ailed", "lost", "rror", "nable", "No devices", "not a valid", "couldn't"} {
			if strings.Contains(line, word) {
				return strings.TrimSpace(line)
			}
		}
	}
	return err.Error()
}

// A limitedBuffer keeps the first bytes written to it and drops the rest.
type limitedBuffer struct {
	kept []byte
	left int
}

// Write never fails, so that the writing program continues.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.kept = append(b.kept, p[:keep]...)
	return len(p), nil
}
