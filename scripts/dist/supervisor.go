package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
)

// packedSupervisor is where package runner/supervisor/program expects the program
// that the agent holds when it is built with the tag kitt_supervise.
const packedSupervisor = "runner/supervisor/program/packed.gz"

// supervisor builds the program that runs in front of benchmarks in containers,
// for one architecture, and packs it for the agent's build.
func (r *release) supervisor(arch string) error {
	path := filepath.Join(r.work, "kitt-supervise_"+arch)
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOFLAGS=-mod=readonly"}
	err := r.do(env, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "-ldflags", "-s -w -buildid=", "./runner/supervisor/kitt-supervise")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Neither a name nor a time gets in, so the same program gives the same bytes.
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = w.Write(program)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return os.WriteFile(packedSupervisor, packed.Bytes(), 0o644)
}
