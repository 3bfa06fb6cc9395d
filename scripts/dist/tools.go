package main

import (
	"os"
	"path"
	"path/filepath"
)

// tools are the programs that the agent holds when it is built with the tag
// kitt_supervise, by their directories. Package runner/supervisor/program expects
// them next to its sources.
var tools = []string{"runner/supervisor/kitt-supervise", "runner/docker/socketproxy/kitt-socket-proxy"}

// tools builds the programs that the agent holds, for one architecture, and packs
// them for the agent's build.
func (r *release) tools(arch string) error {
	for _, source := range tools {
		name := path.Base(source)
		built := filepath.Join(r.work, name+"_"+arch)
		env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOFLAGS=-mod=readonly"}
		err := r.do(env, "go", "build", "-trimpath", "-buildvcs=false", "-o", built, "-ldflags", "-s -w -buildid=", "./"+source)
		if err != nil {
			return err
		}
		program, err := os.ReadFile(built)
		if err != nil {
			return err
		}
		// Neither a name nor a time gets in, so the same program gives the same bytes.
		packed, err := compress(program)
		if err != nil {
			return err
		}
		if err := os.WriteFile("runner/supervisor/program/"+name+".gz", packed, 0o644); err != nil {
			return err
		}
	}
	return nil
}
