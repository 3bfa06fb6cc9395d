package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage"
)

// newModelsCommand returns `kitt-agent models`.
func newModelsCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:   "models",
		Short: "List, fetch, remove or verify the local copies of models",
		Long: `List, fetch, remove or verify the copies of models that the agent keeps on local disk.
These commands work while an agent runs: what a job uses is never removed, nor is a
model that the agent did not copy itself.`,
		Example: "  kitt-agent models list\n  kitt-agent models pull meta-llama/Llama-3.1-8B\n  kitt-agent models rm meta-llama/Llama-3.1-8B\n  kitt-agent models verify",
	}, newModelsListCommand(env), newModelsPullCommand(env), newModelsRemoveCommand(env), newModelsVerifyCommand(env))
}

// withModels calls do with the storage of the settings in force.
func (env *environment) withModels(do func(cfg *config.Config, models *storage.Local) error) (err error) {
	cfg, err := env.config(nil)
	if err != nil {
		return err
	}
	models, err := storage.New(storageConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, models.Close()) }()
	return do(cfg, models)
}

// newModelsListCommand returns `kitt-agent models list`.
func newModelsListCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the copies",
		Example: "  kitt-agent models list\n  kitt-agent models list --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.withModels(func(_ *config.Config, models *storage.Local) error {
				copies, err := models.List(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					if copies == nil {
						copies = []storage.Copy{}
					}
					return env.printJSON(copies)
				}
				return writeCopies(env.stdout, copies)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func writeCopies(w io.Writer, copies []storage.Copy) error {
	if len(copies) == 0 {
		_, err := fmt.Fprintln(w, "No copies.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MODEL\tSIZE\tON DISK\tFILES\tLAST USED\tSTATE")
	for _, c := range copies {
		state := "kept"
		switch {
		case c.Running:
			state = "being copied"
		case c.Partial:
			state = "interrupted, resumes at the next pull"
		case len(c.Holders) > 0:
			state = fmt.Sprintf("used by %d jobs", len(c.Holders))
		}
		used := "never"
		if !c.LastUsed.IsZero() {
			used = c.LastUsed.Local().Format(time.DateTime)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", printable(c.Model), base.Size(c.Bytes), base.Size(c.OnDisk), c.Files, used, state)
	}
	return table.Flush()
}

// pullReport is what `models pull --json` prints.
type pullReport struct {
	Model  string `json:"model"`
	Path   string `json:"path"`
	Origin string `json:"origin"` // local, copied or in-place
}

// newModelsPullCommand returns `kitt-agent models pull`.
func newModelsPullCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pull <model>",
		Short: "Bring a model from the share to local disk",
		Long: `Bring a model from the share to local disk, as a job would. Interrupted, it goes on at
the next pull where it was. It fails if there is no such model, also where an engine
would fetch one of that name.`,
		Example: "  kitt-agent models pull meta-llama/Llama-3.1-8B\n  kitt-agent models pull /mnt/models/qwen.gguf --json",
		Args:    exactly(1, "the path or name of a model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withModels(func(_ *config.Config, models *storage.Local) error {
				path, origin, err := env.pull(cmd.Context(), models, args[0])
				if err != nil {
					return err
				}
				if origin == storage.OriginIdentifier {
					return fmt.Errorf("there is no model %s on this machine or the share; an engine would fetch it by that name. See: kitt-agent models list", quote(args[0]))
				}
				if asJSON {
					return env.printJSON(pullReport{args[0], path, origin})
				}
				_, err = fmt.Fprintln(env.stdout, path)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// pull fetches a model, with a bar on a terminal and lines elsewhere, both on
// standard error.
func (env *environment) pull(ctx context.Context, models *storage.Local, model string) (path, origin string, err error) {
	req := storage.Request{Model: model, Holder: "models-pull"}
	if !logging.IsTerminal(env.stderr) {
		req.Log = env.stderr
		return models.Pull(ctx, req)
	}
	bars := mpb.NewWithContext(ctx, mpb.WithOutput(env.stderr), mpb.WithWidth(48))
	var once sync.Once
	var bar *mpb.Bar
	req.Progress = func(p storage.Progress) {
		if p.BytesTotal == 0 {
			return
		}
		once.Do(func() {
			bar = bars.AddBar(p.BytesTotal, mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
				mpb.AppendDecorators(decor.Percentage(), decor.Any(func(decor.Statistics) string {
					return fmt.Sprintf("  %.0f MiB/s  %s left", p.Rate/(1<<20), p.Remaining.Round(time.Second))
				})))
		})
		bar.SetCurrent(p.BytesDone)
	}
	path, origin, err = models.Pull(ctx, req)
	if bar != nil && !bar.Completed() {
		bar.Abort(err != nil)
	}
	bars.Wait()
	return path, origin, err
}

// newModelsRemoveCommand returns `kitt-agent models rm`.
func newModelsRemoveCommand(env *environment) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:     "rm <model> | rm --all",
		Short:   "Remove a copy, or all that no job uses",
		Example: "  kitt-agent models rm meta-llama/Llama-3.1-8B\n  kitt-agent models rm --all",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) == 1) || len(args) > 1 {
				return usageError("kitt-agent models rm meta-llama/Llama-3.1-8B", "name one model, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withModels(func(_ *config.Config, models *storage.Local) error {
				model := ""
				if !all {
					model = args[0]
				}
				done, err := models.Evict(cmd.Context(), model)
				if err == nil && !all && len(done.Removed) == 0 {
					err = fmt.Errorf("%s was not removed", quote(model))
				}
				if asJSON {
					return errors.Join(env.printJSON(done), err)
				}
				for _, path := range done.Removed {
					fmt.Fprintln(env.stdout, "removed "+printable(path))
				}
				for _, kept := range done.Kept {
					fmt.Fprintf(env.stdout, "kept %s: %s\n", printable(kept.Path), printable(kept.Reason))
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(env.stdout, "%s freed\n", base.Size(done.BytesFreed))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all copies that no job uses")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// newModelsVerifyCommand returns `kitt-agent models verify`.
func newModelsVerifyCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "verify [model]",
		Short:   "Read copies again and hold them against their hashes",
		Example: "  kitt-agent models verify\n  kitt-agent models verify meta-llama/Llama-3.1-8B --json",
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withModels(func(_ *config.Config, models *storage.Local) error {
				names := args
				if len(names) == 0 {
					copies, err := models.List(cmd.Context())
					if err != nil {
						return err
					}
					for _, c := range copies {
						if !c.Partial {
							names = append(names, c.Model)
						}
					}
				}
				results, damaged := []storage.Verification{}, 0
				for _, name := range names {
					v, err := models.Verify(cmd.Context(), name, nil)
					if err != nil {
						return err
					}
					results = append(results, v)
					if len(v.Damaged) > 0 {
						damaged++
					}
					if !asJSON {
						writeVerification(env.stdout, v)
					}
				}
				if asJSON {
					if err := env.printJSON(results); err != nil {
						return err
					}
				}
				if damaged > 0 {
					return fmt.Errorf("%d of %d copies are damaged; delete these directories by hand, since the agent never deletes what somebody changed, and pull them again", damaged, len(results))
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func writeVerification(w io.Writer, v storage.Verification) {
	if len(v.Damaged) == 0 {
		fmt.Fprintf(w, "%s is whole, %s\n", printable(v.Path), base.Size(v.Bytes))
		return
	}
	fmt.Fprintf(w, "%s is damaged:\n", printable(v.Path))
	for _, d := range v.Damaged {
		fmt.Fprintf(w, "  %s\n", printable(fmt.Sprint(d)))
	}
}
