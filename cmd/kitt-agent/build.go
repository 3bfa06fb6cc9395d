package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/imagebuild"
)

const (
	maxContext = 1 << 30          // bytes of a build context that is downloaded
	askAgent   = 2 * time.Second  // for the settings in force
	serverWait = 60 * time.Second // for the server, which packs the context when first asked
)

// build is what the flags of `kitt-agent build` say.
type build struct {
	tag, file, dockerfile string
	noCache, noVerify     bool
	asJSON                bool
}

// newBuildCommand returns `kitt-agent build`.
func newBuildCommand(env *environment) *cobra.Command {
	var b build
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the container image that benchmarks run in",
		Long: `Build the container image that benchmarks run in, for this machine's architecture.

The build context comes from the server and is checked against the server's SHA-256;
with --file it is a local directory, .tar or .tar.gz. The image is tagged kitt:latest
and with kitt_image of the settings in force, or with --tag in place of that. Steps of
the build get the proxies of this environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY,
FTP_PROXY, ALL_PROXY). Ctrl-C cancels the build in the engine.`,
		Example: `  kitt-agent build
  kitt-agent build --no-cache
  kitt-agent build --server https://server:8080 --tag registry.example/kitt:1.7
  kitt-agent build --file ./kitt --dockerfile docker/web/Dockerfile`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(changed(cmd, map[string]string{"server": "server_url"}))
			if err != nil {
				return err
			}
			return env.build(cmd.Context(), cfg, b)
		},
	}
	env.insecureFlag(cmd)
	flags := cmd.Flags()
	flags.String("server", "", "`URL` of the KITT server (default from agent.yaml)")
	flags.StringVar(&b.tag, "tag", "", "`image` reference in place of kitt_image")
	flags.BoolVar(&b.noCache, "no-cache", false, "repeat every step")
	flags.StringVar(&b.file, "file", "", "build from this directory, .tar or .tar.gz in place of the server's context")
	flags.StringVar(&b.dockerfile, "dockerfile", imagebuild.ServerDockerfile, "`path` of the Dockerfile within the context")
	flags.BoolVar(&b.noVerify, "no-verify", false, "take the server's context without its SHA-256")
	flags.BoolVar(&b.asJSON, "json", false, "print one JSON object")
	return cmd
}

func (env *environment) build(ctx context.Context, cfg *config.Config, b build) error {
	tags, err := env.imageTags(ctx, cfg, b.tag)
	if err != nil {
		return err
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return fmt.Errorf("docker: %w", err)
	}
	defer engine.Close()
	if err := imagebuild.Check(ctx, engine); err != nil {
		return err // before anything is downloaded
	}
	files, limits, err := env.buildContext(ctx, cfg, b)
	if err != nil {
		return err
	}
	defer files.Close()
	env.say("Building %s", strings.Join(tags, " and "))
	image, err := imagebuild.Build(ctx, engine, imagebuild.Options{
		Context: files, Limits: limits, Dockerfile: b.dockerfile,
		Tags: tags, NoCache: b.noCache, Args: env.proxies(),
		Output: func(line string) { env.say("%s", line) },
	})
	if err != nil {
		return err
	}
	if image.Architecture != runtime.GOARCH {
		env.say("kitt-agent: warning: the image is made for %s, and this machine is %s: benchmarks will not run in it", image.Architecture, runtime.GOARCH)
	}
	if b.asJSON {
		return env.printJSON(struct {
			imagebuild.Image
			Seconds float64 `json:"seconds"`
		}{image, image.Took.Seconds()})
	}
	_, err = fmt.Fprintf(env.stdout, "Image         %s\nTags          %s\nArchitecture  %s\nSize          %s\nTime          %s\n",
		image.ID, strings.Join(image.Tags, ", "), image.Architecture, base.Size(image.Bytes), span(image.Took))
	return err
}

// imageTags returns what the image is to be called.
func (env *environment) imageTags(ctx context.Context, cfg *config.Config, tag string) ([]string, error) {
	custom, from := tag, "--tag"
	if custom == "" {
		custom, from = env.imageInForce(ctx, cfg), "kitt_image"
	}
	tags := []string{docker.DefaultImage}
	if custom == "" {
		return tags, nil
	}
	named, err := reference.ParseNormalizedNamed(custom)
	if err == nil {
		if _, digested := named.(reference.Digested); digested {
			err = errors.New("it has a digest, which nobody can choose")
		}
	}
	if err != nil {
		return nil, usageError("kitt-agent build --tag registry.example/kitt:1.7", "%s %s is no name for an image: %v", from, quote(custom), err)
	}
	if name := reference.FamiliarString(reference.TagNameOnly(named)); name != docker.DefaultImage {
		tags = append([]string{name}, tags...)
	}
	return tags, nil
}

// imageInForce returns kitt_image as the running agent has it, which the server
// may have changed, or else as the configuration does.
func (env *environment) imageInForce(ctx context.Context, cfg *config.Config) string {
	ctx, cancel := context.WithTimeout(ctx, askAgent)
	defer cancel()
	if running, err := newAgentClient(cfg); err == nil {
		if status, _, err := running.Status(ctx); err == nil && status.Settings["kitt_image"] != "" {
			return status.Settings["kitt_image"]
		}
	}
	return cfg.KITTImage
}

// proxyVariables are those that Docker predefines as build arguments.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

// proxies returns the build arguments for the proxies of this environment. The
// engine keeps these, unlike others, out of the image's history.
func (env *environment) proxies() map[string]string {
	args := map[string]string{}
	for _, name := range proxyVariables {
		for _, n := range []string{name, strings.ToLower(name)} {
			if value := env.getenv(n); value != "" {
				args[n] = value
			}
		}
	}
	if len(args) > 0 {
		env.say("Steps of the build get %s", strings.Join(slices.Sorted(maps.Keys(args)), ", "))
	}
	return args
}

// buildContext returns the context to build from.
func (env *environment) buildContext(ctx context.Context, cfg *config.Config, b build) (io.ReadCloser, imagebuild.Limits, error) {
	if b.file == "" {
		f, err := env.serverContext(ctx, cfg, b.noVerify)
		return f, imagebuild.DefaultLimits, err
	}
	info, err := os.Stat(b.file)
	if err != nil {
		return nil, imagebuild.Limits{}, err
	}
	if info.IsDir() {
		out, in := io.Pipe()
		go func() { in.CloseWithError(imagebuild.PackDirectory(ctx, in, b.file)) }()
		return out, imagebuild.LocalLimits, nil
	}
	f, err := os.Open(b.file)
	return f, imagebuild.LocalLimits, err
}

// serverContext downloads the server's build context and checks it. The file that
// it returns has no name any more, so that nothing is left of it.
func (env *environment) serverContext(ctx context.Context, cfg *config.Config, noVerify bool) (_ *os.File, err error) {
	if cfg.ServerURL == "" {
		return nil, usageError("kitt-agent build --server https://server:8080", "no server is configured")
	}
	server, err := newServerWithin(cfg, slog.New(slog.DiscardHandler), serverWait)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "kitt-build-context-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	artifact := kittapi.Artifact{Name: kittapi.ArtifactBuildContext, MaxBytes: maxContext}
	env.say("Downloading the build context from %s", cfg.ServerURL)
	bar := env.newBar(ctx)
	artifact.Progress = bar.set
	got, err := server.Download(ctx, artifact, file)
	bar.end(err)
	if err != nil {
		return nil, err
	}
	env.say("Downloaded %d bytes", got.Bytes)
	if err := env.verify(ctx, server, artifact, got, noVerify); err != nil {
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// verify checks a download against the server's digest.
func (env *environment) verify(ctx context.Context, server *kittapi.Client, a kittapi.Artifact, got kittapi.Downloaded, not bool) error {
	want, err := server.Digest(ctx, a)
	switch {
	case err != nil && not && ctx.Err() == nil:
		env.say("kitt-agent: warning: NOT VERIFIED: whether what came is what the server has is not known (SHA-256 %s)", got.SHA256)
		return nil
	case errors.Is(err, kittapi.ErrNoDigest):
		return fmt.Errorf("%w\ntry: kitt-agent build --no-verify, if you trust the way to the server", err)
	case err != nil:
		return err
	case want == got.SHA256:
		env.say("Verified: SHA-256 %s", want)
		return nil
	case not:
		env.say("kitt-agent: warning: NOT VERIFIED: the SHA-256 is %s, and the server says %s", got.SHA256, want)
		return nil
	}
	return fmt.Errorf("the build context was damaged on its way: its SHA-256 is %s, and the server says %s; try again", got.SHA256, want)
}
