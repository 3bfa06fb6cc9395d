// Package dockertest makes images for tests that need a Docker engine: they
// hold nothing but the program that plays kitt, so no registry is needed.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// timeout bounds each call to the engine.
const timeout = time.Minute

// An Engine is the Docker engine of this machine.
type Engine struct {
	// Client is for what the methods don't offer.
	Client *client.Client

	// Arch is the engine's architecture, by Go's names.
	Arch string
}

// Find returns the engine that DOCKER_HOST names, or the usual one, if it
// answers.
func Find(ctx context.Context) (*Engine, error) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	version, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no Docker engine answers: %w", err), c.Close())
	}
	return &Engine{Client: c, Arch: version.Arch}, nil
}

// Close gives up the connections to the engine.
func (e *Engine) Close() error { return e.Client.Close() }

// Build makes an image by that name, a repository and a tag, from nothing, that holds the program kitt
// as the command kitt. An empty arch means the engine's; for another one the
// image only claims to be made for it.
func (e *Engine) Build(ctx context.Context, name, kitt, arch string) error {
	program, err := os.ReadFile(kitt)
	if err != nil {
		return err
	}
	return e.BuildImage(ctx, name, Image{Arch: arch, Files: map[string][]byte{"usr/bin/kitt": program}})
}

// An Image is what BuildImage makes an image of.
type Image struct {
	Arch  string            // empty means the engine's
	User  string            // that the container's process is; empty means root
	Files map[string][]byte // by path, without a slash at the beginning; all may be executed
}

// BuildImage makes an image by that name, of one layer, from nothing.
func (e *Engine) BuildImage(ctx context.Context, name string, image Image) error {
	if image.Arch == "" {
		image.Arch = e.Arch
	}
	archive, err := imageArchive(name, image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := e.Client.ImageLoad(ctx, bytes.NewReader(archive), client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("make the image %s: %w", name, err)
	}
	defer reply.Close()
	// The engine has answered 200 before it begins; how it went is said in the
	// body.
	for progress := json.NewDecoder(reply); ; {
		var line struct {
			Error string `json:"error"`
		}
		err := progress.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && line.Error != "" {
			err = errors.New(line.Error)
		}
		if err != nil {
			return fmt.Errorf("make the image %s: %w", name, err)
		}
	}
}

// Remove removes an image. One that is not there is as good as removed.
func (e *Engine) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := e.Client.ImageRemove(ctx, name, client.ImageRemoveOptions{Force: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the image %s: %w", name, err)
	}
	return nil
}

// imageArchive returns an image of one layer in the form of `docker save`.
func imageArchive(name string, image Image) ([]byte, error) {
	var files []file
	for _, path := range slices.Sorted(maps.Keys(image.Files)) {
		files = append(files, file{path, 0o755, image.Files[path]})
	}
	layer, err := pack(files)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": image.Arch,
		"os":           "linux",
		"config":       map[string]any{"User": image.User},
		"rootfs": map[string]any{
			"type":     "layers",
			"diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))},
		},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	return pack([]file{{"config.json", 0o644, config}, {"layer.tar", 0o644, layer}, {"manifest.json", 0o644, manifest}})
}

type file struct {
	name string
	mode int64
	data []byte
}

func pack(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// BuildScriptKitt makes an image by that name which plays kitt and its engines: it holds
// the program of scriptkitt, as the commands kitt and engine, and the docker command of
// this machine, which must be static.
func (e *Engine) BuildScriptKitt(ctx context.Context, name, user string) error {
	dir, err := os.MkdirTemp("", "scriptkitt")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/kitt", "github.com/kirizan/kitt-agent/runner/docker/dockertest/scriptkitt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build scriptkitt: %w: %s", err, out)
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for target, source := range map[string]string{"usr/bin/kitt": dir + "/kitt", "usr/bin/engine": dir + "/kitt", "usr/bin/docker": docker} {
		if files[target], err = os.ReadFile(source); err != nil {
			return err
		}
	}
	return e.BuildImage(ctx, name, Image{User: user, Files: files})
}
