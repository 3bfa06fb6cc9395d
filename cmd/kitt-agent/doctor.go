package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/bugreport"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage"
)

const (
	reportedLog  = 1 << 20 // bytes of the agent's log and of the audit trail in a report
	reportedJobs = 20      // jobs of which a report has the record

	// preflightLimit is what all checks together may take: each has a limit of its own.
	preflightLimit = 3 * time.Minute
)

// newDoctorCommand returns `kitt-agent doctor`.
func newDoctorCommand(env *environment) *cobra.Command {
	var output string
	var asText, skipPreflight bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Gather what a bug report needs in one file, without secrets",
		Long: `Gather what a bug report needs in one file: version, settings and where they come from,
preflight, the agent's status, hardware, container engine, the records of the latest jobs,
and the ends of the agent's log and audit trail. It works without a running agent, and
with settings that are wrong.

Tokens, keys, passwords and the values of secret variables are replaced by [redacted]. Names of
machines, models and users are not: look at the file before you publish it. Logs of jobs
are left out; kitt-agent logs shows them.`,
		Example: "  kitt-agent doctor\n  kitt-agent doctor -o report.tar.gz\n  kitt-agent doctor --text | less",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asText && output != "" {
				return usageError("kitt-agent doctor --text > report.txt", "--text writes to standard output, so there is no --output")
			}
			now := time.Now()
			texts := env.diagnose(cmd.Context(), skipPreflight)
			if asText {
				return bugreport.WriteText(env.stdout, texts)
			}
			return env.writeReport(output, texts, now)
		},
	}
	flags := cmd.Flags()
	env.insecureFlag(cmd)
	flags.StringVarP(&output, "output", "o", "", "`file` to write; it must not exist (default kitt-agent-report-TIME.tar.gz)")
	flags.BoolVar(&asText, "text", false, "write one text to standard output in place of an archive")
	flags.BoolVar(&skipPreflight, "no-preflight", false, "leave the checks of this machine out")
	return cmd
}

// writeReport writes the archive, and says where.
func (env *environment) writeReport(path string, texts []bugreport.Text, now time.Time) (err error) {
	name := "kitt-agent-report-" + now.Format("20060102-150405")
	if path == "" {
		path = name + ".tar.gz"
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("%w; name another file with --output", err)
	}
	err = bugreport.WriteArchive(f, name, texts, now)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(path) // it is not whole
		return err
	}
	_, err = fmt.Fprintln(env.stdout, path)
	env.say("Look at it before you publish it: it names machines, models and users.")
	return err
}

// diagnose returns the sections of a report.
func (env *environment) diagnose(ctx context.Context, skipPreflight bool) []bugreport.Text {
	cfg, cfgErr := env.config(nil)
	sections := []bugreport.Section{
		{Name: "version.json", Write: func(_ context.Context, w io.Writer) error { return writeJSON(w, thisBuild()) }},
		{Name: "settings.txt", Write: func(_ context.Context, w io.Writer) error {
			if cfgErr != nil {
				return cfgErr
			}
			return writeSettings(w, cfg)
		}},
		{Name: "environment.txt", Write: writeEnvironment},
	}
	if cfgErr != nil {
		return bugreport.Gather(ctx, sections, nil)
	}
	sections = append(sections,
		bugreport.Section{Name: "status.json", Write: func(ctx context.Context, w io.Writer) error { return writeAgentStatus(ctx, w, cfg) }},
		bugreport.Section{Name: "hardware.txt", Write: func(ctx context.Context, w io.Writer) error { return diagnoseHardware(ctx, w, cfg) }},
		bugreport.Section{Name: "engine.txt", Write: writeEngine},
		bugreport.Section{Name: "disks.txt", Write: func(_ context.Context, w io.Writer) error { return writeDisks(w, cfg) }},
		bugreport.Section{Name: "jobs.txt", Write: func(_ context.Context, w io.Writer) error { return writeJobRecords(w, cfg) }},
		bugreport.Section{Name: "agent.log", Write: func(_ context.Context, w io.Writer) error { return writeEnd(w, cfg.LogFile()) }},
		bugreport.Section{Name: "audit.jsonl", Write: func(_ context.Context, w io.Writer) error { return writeEnd(w, cfg.AuditFile()) }},
	)
	if !skipPreflight {
		sections = append(sections, bugreport.Section{Name: "preflight.txt", Limit: preflightLimit, Write: func(ctx context.Context, w io.Writer) error {
			results, err := env.preflight(ctx, cfg)
			if err != nil {
				return err
			}
			return writeChecks(w, results)
		}})
	}
	return bugreport.Gather(ctx, sections, env.secretsOf(cfg))
}

// secretsOf returns all that cfg says must not be seen, as far as it can be read.
func (env *environment) secretsOf(cfg *config.Config) []string {
	secrets := []string{cfg.Token.Reveal(), cfg.ServerToken.Reveal()}
	refs := []config.Reference{cfg.Notify.URL, cfg.Notify.Key}
	for _, ref := range cfg.Env {
		if ref.Secret() || ref.LooksLikeKey() {
			refs = append(refs, ref)
		}
	}
	for _, ref := range refs {
		if value, err := ref.Resolve(env.getenv); err == nil {
			secrets = append(secrets, value.Reveal())
		}
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if u, err := url.Parse(env.getenv(name)); err == nil && u.User != nil {
			if password, ok := u.User.Password(); ok {
				secrets = append(secrets, password)
			}
		}
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
}

// writeSettings writes every setting with its value and where that comes from.
func writeSettings(out io.Writer, cfg *config.Config) error {
	fmt.Fprintf(out, "File: %s (exists: %t)\nHome: %s\n\n", cfg.Path, cfg.Exists(), cfg.Home)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range cfg.Settings() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
	}
	return w.Flush()
}

// writeEnvironment writes the names of the variables that matter to the agent, not their
// values.
func writeEnvironment(_ context.Context, w io.Writer) error {
	vars := os.Environ()
	slices.Sort(vars)
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		upper := strings.ToUpper(name)
		for _, prefix := range []string{"KITT_", "DOCKER_", "CUDA_", "NVIDIA_", "HF_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "INVOCATION_ID", "NOTIFY_SOCKET"} {
			if strings.HasPrefix(upper, prefix) {
				fmt.Fprintln(w, name, "is set")
				break
			}
		}
	}
	return nil
}

// writeAgentStatus writes what the running agent says of itself.
func writeAgentStatus(ctx context.Context, w io.Writer, cfg *config.Config) error {
	c, err := newAgentClient(cfg)
	if err != nil {
		return err
	}
	_, raw, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, raw)
}

func diagnoseHardware(ctx context.Context, w io.Writer, cfg *config.Config) error {
	system, err := standard.NewDetector(hwdetect.Config{ModelDir: modelDir(cfg)})
	if err != nil {
		return err
	}
	defer system.Close()
	ctx, cancel := context.WithTimeout(ctx, hardwareTimeout)
	defer cancel()
	machine, err := system.Detect(ctx)
	if err != nil {
		return err
	}
	telemetry, _ := system.Telemetry(ctx) // a machine without GPUs has none
	return writeHardware(w, machine, telemetry)
}

// writeEngine writes what matters of the container engine. All of its information would
// tell proxies, registries and labels too.
func writeEngine(ctx context.Context, w io.Writer) error {
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer engine.Close()
	answer, err := engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return err
	}
	info := answer.Info
	runtimes := make([]string, 0, len(info.Runtimes))
	for name := range info.Runtimes {
		runtimes = append(runtimes, name)
	}
	slices.Sort(runtimes)
	fmt.Fprintf(w, "Version           %s, API %s\nSystem            %s, kernel %s, %s\nStorage driver    %s\nCgroups           version %s, %s\nRuntimes          %s, default %s\nSecurity          %s\n"+
		"Containers        %d running, %d stopped\nImages            %d\nWarnings          %s\n",
		info.ServerVersion, engine.ClientVersion(), info.OperatingSystem, info.KernelVersion, info.Architecture, info.Driver,
		info.CgroupVersion, info.CgroupDriver, strings.Join(runtimes, " "), info.DefaultRuntime, strings.Join(info.SecurityOptions, " "),
		info.ContainersRunning, info.ContainersStopped, info.Images, strings.Join(info.Warnings, "; "))
	return nil
}

// writeDisks writes how much is free where the agent keeps its files and models.
func writeDisks(w io.Writer, cfg *config.Config) error {
	for _, dir := range []string{cfg.Home, modelDir(cfg), os.TempDir()} {
		free, used, err := storage.DiskSpace(dir)
		if err != nil {
			fmt.Fprintf(w, "%s: %s\n", dir, err)
			continue
		}
		fmt.Fprintf(w, "%s: %s free, %s used\n", dir, base.Size(free), base.Size(used))
	}
	return nil
}

// writeJobRecords writes which jobs there are, and the records of the latest.
func writeJobRecords(w io.Writer, cfg *config.Config) error {
	jobs, err := agent.StoredJobs(cfg.Home)
	changed := map[string]time.Time{}
	for _, j := range jobs {
		if info, err := os.Stat(filepath.Join(j.Dir, "job.json")); err == nil {
			changed[j.CommandID] = info.ModTime()
		}
	}
	slices.SortFunc(jobs, func(a, b agent.StoredJob) int { return changed[b.CommandID].Compare(changed[a.CommandID]) })
	fmt.Fprintf(w, "%d jobs, latest first\n", len(jobs))
	for _, j := range jobs {
		fmt.Fprintf(w, "%s %s %s\n", j.CommandID, j.State, changed[j.CommandID].Format(time.RFC3339))
	}
	for _, j := range jobs[:min(len(jobs), reportedJobs)] {
		fmt.Fprintf(w, "\n%s:\n", j.CommandID)
		if err := writeEnd(w, filepath.Join(j.Dir, "job.json")); err != nil {
			fmt.Fprintln(w, err)
		}
	}
	return err
}

// writeEnd writes the end of a file, from the beginning of a line.
func writeEnd(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	from := max(0, info.Size()-reportedLog)
	text, err := io.ReadAll(io.NewSectionReader(f, from, reportedLog))
	if from > 0 {
		_, rest, _ := strings.Cut(string(text), "\n")
		text = []byte("(the beginning is left out)\n" + rest)
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return err
}
