package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"
)

// fetchPackage returns the package to update from, checked against its digest
// where there is one. A file that was downloaded has no name any more, so that
// nothing is left of it.
func (env *environment) fetchPackage(ctx context.Context, cfg *config.Config, u updateOptions) (_ *os.File, err error) {
	remote := strings.HasPrefix(u.from, "http://") || strings.HasPrefix(u.from, "https://")
	var file *os.File
	if u.from != "" && !remote {
		file, err = os.Open(config.Expand(u.from))
	} else {
		file, err = unnamedFile()
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	switch {
	case u.from == "":
		err = env.fetchFromServer(ctx, cfg, u, file)
	case remote:
		err = env.fetchFromURL(ctx, cfg, u, file)
	}
	if err != nil {
		return nil, err
	}
	if u.sha256 != "" {
		if err := checkDigest(file, u.sha256); err != nil {
			return nil, err
		}
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

func unnamedFile() (*os.File, error) {
	file, err := os.CreateTemp("", "kitt-agent-package-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// fetchFromServer downloads the server's package for this platform.
func (env *environment) fetchFromServer(ctx context.Context, cfg *config.Config, u updateOptions, file *os.File) error {
	if cfg.ServerURL == "" {
		return usageError("kitt-agent update --from kitt-agent.tar.gz", "no server is configured, and --from is missing")
	}
	address, err := url.Parse(cfg.ServerURL)
	if err != nil {
		return err
	}
	if err := checkOrigin(address, cfg, u); err != nil {
		return err
	}
	server, err := newServerWithin(cfg, slog.New(slog.DiscardHandler), serverWait)
	if err != nil {
		return err
	}
	artifact := kittapi.Artifact{
		Name:     kittapi.ArtifactPackage,
		Query:    url.Values{"os": {runtime.GOOS}, "arch": {runtime.GOARCH}},
		MaxBytes: selfupdate.MaxPackage,
	}
	env.say("Downloading the agent's package from %s", cfg.ServerURL)
	bar := env.newBar(ctx)
	artifact.Progress = bar.set
	got, err := server.Download(ctx, artifact, file)
	bar.end(err)
	if errors.Is(err, reporter.ErrServerFailed) { // as KITT 1.7 is without the tools to build its own package
		return fmt.Errorf("%w; a package from elsewhere is taken with --from URL or --from FILE", err)
	}
	if err != nil {
		return err
	}
	want, err := server.Digest(ctx, artifact)
	switch {
	case err != nil:
		return fmt.Errorf("the package cannot be checked: %w", err)
	case want != got.SHA256:
		return fmt.Errorf("the package was damaged on its way: its SHA-256 is %s, and the server says %s; try again", got.SHA256, want)
	}
	return nil
}

// checkOrigin returns an error for a package that comes over plain http, which anybody
// on the way could have written, unless its digest or its signature is checked.
func checkOrigin(address *url.URL, cfg *config.Config, u updateOptions) error {
	if address.Scheme != "http" || u.sha256 != "" || cfg.UpdateKey != "" {
		return nil
	}
	return usageError("kitt-agent update --sha256 DIGEST",
		"a package that comes over http, where anybody can change it, needs --sha256, or update.public_key in agent.yaml")
}

// fetchFromURL downloads a package from anywhere.
func (env *environment) fetchFromURL(ctx context.Context, cfg *config.Config, u updateOptions, file *os.File) error {
	address, err := url.Parse(u.from)
	if err != nil || address.Host == "" {
		return usageError("kitt-agent update --from https://host/kitt-agent.tar.gz", "the address after --from cannot be read")
	}
	if err := checkOrigin(address, cfg, u); err != nil {
		return err
	}
	env.say("Downloading %s", address.Redacted())
	bar := env.newBar(ctx)
	err = selfupdate.Fetch(ctx, u.from, file, bar.set)
	bar.end(err)
	if err != nil {
		return fmt.Errorf("download of %s: %w", address.Redacted(), err)
	}
	return nil
}

// checkDigest checks a package against --sha256.
func checkDigest(file *os.File, want string) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("the package is another one: its SHA-256 is %s, and --sha256 says %s", got, want)
	}
	return nil
}
