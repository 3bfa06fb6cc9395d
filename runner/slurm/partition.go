package slurm

import (
	"context"
	"strconv"
	"strings"
)

// A Node is a machine of the partition.
type Node struct {
	Name        string
	Arch        string // as Slurm has it, such as x86_64
	CPUs        int
	MemoryBytes int64
	GPUs        int
	GPUType     string // as in gres.conf, such as h200; empty if it has none
	State       string // such as idle, or down*
}

// sinfoFormat is that of sinfo -o. The generic resources come last.
const sinfoFormat = "%N|%T|%c|%m|%G"

// Nodes asks Slurm for the nodes of the runner's partition, or of the default one, or of
// all if there is none.
func (r *Runner) Nodes(ctx context.Context) ([]Node, error) {
	args := []string{"--noheader", "--Node", "--format=" + sinfoFormat}
	if r.cfg.Partition != "" {
		args = append(args, "--partition="+r.cfg.Partition)
	}
	text, err := r.slurm.run(ctx, "", "sinfo", args...)
	if err != nil {
		return nil, err
	}
	nodes := parseNodes(text)
	arches, err := r.slurm.run(ctx, "", "scontrol", "--oneliner", "show", "node")
	if err != nil {
		return nil, err
	}
	byName := parseArches(arches)
	for i := range nodes {
		nodes[i].Arch = byName[nodes[i].Name]
	}
	return nodes, nil
}

// parseNodes reads lines of sinfo, which name a node once for each of its partitions.
func parseNodes(text string) (nodes []Node) {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 5)
		if len(f) < 5 || f[0] == "" || seen[f[0]] {
			continue
		}
		seen[f[0]] = true
		n := Node{Name: f[0], State: f[1]}
		n.CPUs, _ = strconv.Atoi(f[2])
		mb, _ := strconv.ParseInt(f[3], 10, 32)
		n.MemoryBytes = max(0, mb) << 20
		n.GPUType, n.GPUs = parseGres(f[4])
		nodes = append(nodes, n)
	}
	return nodes
}

// parseGres returns the GPUs among generic resources, such as gpu:h200:8(S:0-1),mps:100.
// Of several types it returns the first, with the number of all.
func parseGres(text string) (kind string, n int) {
	depth := 0
	for _, one := range strings.FieldsFunc(text, func(r rune) bool { // commas within parentheses separate nothing
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth <= 0
	}) {
		one, _, _ = strings.Cut(one, "(")
		parts := strings.Split(one, ":")
		if parts[0] != "gpu" {
			continue
		}
		count := 1
		if last := parts[len(parts)-1]; len(parts) > 1 {
			if c, err := strconv.ParseUint(last, 10, 16); err == nil {
				count, parts = int(c), parts[:len(parts)-1]
			}
		}
		n += count
		if len(parts) > 1 && kind == "" {
			kind = parts[1]
		}
	}
	return kind, n
}

// parseArches returns the architectures of nodes by their names.
func parseArches(text string) map[string]string {
	arches := map[string]string{}
	for line := range strings.Lines(text) {
		var name string
		for _, word := range strings.Fields(line) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "NodeName":
				name = value
			case "Arch":
				arches[name] = value
			}
		}
	}
	return arches
}

// Version returns what Slurm's commands call themselves, such as "slurm-wlm 22.05.8". It
// asks no daemon.
func (r *Runner) Version(ctx context.Context) (string, error) {
	text, err := r.slurm.run(ctx, "", "sinfo", "--version")
	return strings.TrimSpace(text), err
}

// CheckQueue returns an error if the controller does not answer.
func (r *Runner) CheckQueue(ctx context.Context) error {
	_, err := r.slurm.run(ctx, "", "squeue", "--noheader", "--me", "--format=%i")
	return err
}
