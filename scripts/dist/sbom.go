package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sbom writes software bills of materials (CycloneDX).
const sbom = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0"

// bill writes the bill of materials of an architecture's program with NVML, which
// has every module that a static one has. It goes into the packages and next to them.
func (r *release) bill(arch string) error {
	made := filepath.Join(r.work, "sbom_"+arch+".json")
	err := r.do(nil, "go", "run", sbom, "bin", "-json", "-noserial", "-std", "-version", r.version,
		"-output", made, r.path(program{arch: arch, nvml: true}))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(made)
	if err != nil {
		return err
	}
	if text, err = r.dated(text); err != nil {
		return fmt.Errorf("%s: %w", sbom, err)
	}
	if err := os.WriteFile(made, text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "kitt-agent_"+r.version+"_linux_"+arch+".cdx.json"), text, 0o644)
}

// dated returns a bill with the release's date in place of today's, and without the
// digests of the tool that wrote it, so that the same commit gives the same bytes.
func (r *release) dated(text []byte) ([]byte, error) {
	var bill map[string]any
	if err := json.Unmarshal(text, &bill); err != nil {
		return nil, err
	}
	metadata, ok := bill["metadata"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("no metadata")
	}
	metadata["timestamp"] = r.date.Format(time.RFC3339)
	delete(metadata, "tools")
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	err := enc.Encode(bill)
	return []byte(out.String()), err
}
