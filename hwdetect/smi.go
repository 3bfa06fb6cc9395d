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

// A RunFunc runs nvidia-smi with args and returns what it printed, also beside
// the error of a run that ended with another status than 0. The error matches
// [ErrAbsent] if there is no such program. It may be called more than once at a
// time.
type RunFunc func(ctx context.Context, args ...string) ([]byte, error)

// The commands that are run, all of them short; the fields are those that
// `nvidia-smi --help-query-gpu` lists.
var (
	smiQuery = []string{"--query-gpu=index,name,uuid,pci.bus_id,memory.total,power.limit,driver_version,compute_cap,mig.mode.current", "--format=csv,noheader,nounits"}
	// Drivers before 510 refuse the whole query for compute_cap.
	smiOldQuery = []string{"--query-gpu=index,name,uuid,pci.bus_id,memory.total,power.limit,driver_version", "--format=csv,noheader,nounits"}
	smiXML      = []string{"-q", "-x"}
	smiList     = []string{"-L"}
	smiTopology = []string{"topo", "-m"}
)

// smi is the source that runs nvidia-smi.
type smi struct{ run RunFunc }

// Name returns "nvidia-smi".
func (s smi) Name() string { return "nvidia-smi" }

// Inventory asks for the GPUs twice at once, as a table, which all versions
// print alike, and as XML, which alone names the CUDA version: what one answer
// lacks the other has.
func (s smi) Inventory(ctx context.Context) (Inventory, error) {
	var table, tree Inventory
	var tableErr, treeErr error
	var both sync.WaitGroup
	both.Go(func() { table, tableErr = s.table(ctx) })
	both.Go(func() { tree, treeErr = s.tree(ctx) })
	both.Wait()
	if tableErr != nil && treeErr != nil {
		return Inventory{}, tableErr
	}
	if tableErr != nil && len(table.GPUs) == 0 {
		table = tree
	} else {
		table.add(tree)
	}
	s.addMIG(ctx, &table)
	s.addNVLink(ctx, &table)
	return table, nil
}

// ask runs nvidia-smi. Its errors are the words in which it complains.
func (s smi) ask(ctx context.Context, args ...string) ([]byte, error) {
	out, err := s.run(ctx, args...)
	switch {
	case err == nil, errors.Is(err, ErrAbsent):
		return out, err
	case ctx.Err() != nil:
		return out, fmt.Errorf("nvidia-smi hangs: %w", context.Cause(ctx))
	}
	return out, errors.New(smiComplaint(out, err))
}

func (s smi) table(ctx context.Context) (Inventory, error) {
	out, err := s.ask(ctx, smiQuery...)
	if err != nil && bytes.Contains(out, []byte("not a valid field")) {
		out, err = s.ask(ctx, smiOldQuery...)
	}
	inv := parseSMITable(out)
	if len(inv.GPUs) > 0 && err != nil {
		// Some GPUs answered and one did not.
		inv.Gaps = append(inv.Gaps, Gap{What: "gpus", Reason: "nvidia-smi: " + err.Error()})
		err = nil
	}
	return inv, err
}

func (s smi) tree(ctx context.Context) (Inventory, error) {
	out, err := s.ask(ctx, smiXML...)
	if err != nil {
		return Inventory{}, err
	}
	log, err := parseSMIXML(out)
	if err != nil {
		return Inventory{}, err
	}
	return log.inventory(), nil
}

// addMIG gives the partitioned GPUs the names of their slices.
func (s smi) addMIG(ctx context.Context, inv *Inventory) {
	partitioned := false
	for _, g := range inv.GPUs {
		partitioned = partitioned || g.MIG != nil && g.MIG.Enabled
	}
	if !partitioned {
		return
	}
	out, err := s.ask(ctx, smiList...)
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

// addNVLink finds out which GPUs are linked to which.
func (s smi) addNVLink(ctx context.Context, inv *Inventory) {
	if len(inv.GPUs) < 2 {
		return
	}
	out, err := s.ask(ctx, smiTopology...)
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
	out, err := s.ask(ctx, smiXML...)
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
	case err != nil && log.lost(out):
		t.Sick = err.Error()
	case err != nil:
		return Telemetry{}, err
	case parseErr != nil:
		return Telemetry{}, parseErr
	}
	return t, nil
}

// maxSMIOutput bounds what is kept of nvidia-smi's output; sixteen GPUs with
// many processes print a few hundred KiB of XML.
const maxSMIOutput = 4 << 20

// runNVIDIASMI finds nvidia-smi on PATH or where WSL2 keeps it, and runs it.
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

// smiComplaint picks the line in which nvidia-smi says why it failed. It may
// stand behind lines about the GPUs that did answer.
func smiComplaint(out []byte, err error) string {
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

// Write never fails, so that the program that writes is not disturbed.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.kept = append(b.kept, p[:keep]...)
	return len(p), nil
}
