package execution

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/runner"
)

// IntegrityKey is the key of result data that says whether the machine was fit to be
// measured. What a benchmark writes there is replaced.
const IntegrityKey = "integrity"

// classMachine is the class of a job that failed because the machine was not fit to be
// measured. It has measured, and its figures are kept.
const classMachine = "machine"

// An Integrity says how the machine is watched during benchmarks. The zero value watches
// nothing.
type Integrity struct {
	Recorder    *integrity.Recorder // nil records nothing
	FailInvalid bool                // whether an invalid run makes its job fail

	WaitIdle      time.Duration // the longest wait for GPUs that others use; 0 for none
	WaitCool      float64       // °C that the GPUs are to have at most before a run; 0 for any
	WaitCoolLimit time.Duration // the longest wait for that
}

// coolLimit returns the longest wait for cool GPUs.
func (i Integrity) coolLimit() time.Duration {
	if i.WaitCool <= 0 {
		return 0
	}
	return i.WaitCoolLimit
}

// record begins to record the machine's state for a run that begins now, or continues
// what an agent before this one recorded. The run waits for no more than the state, which
// is on disk then.
func (x *execution) record(ctx context.Context, resume bool) {
	if x.cfg.Integrity.Recorder == nil || !x.job.IsBenchmark() {
		return
	}
	begin := x.cfg.Integrity.Recorder.Begin
	if resume {
		begin = x.cfg.Integrity.Recorder.Resume
	}
	x.detachRecording()
	rec, err := begin(context.WithoutCancel(ctx), integrity.Run{
		Dir: x.job.Dir, Identity: x.comparable(), Model: x.runnerJob().ModelPaths(), PhaseFile: x.runnerJob().PhaseFile(), Neighbours: x.neighbours, Foreign: x.foreign, Watch: x.watchEngine(),
	})
	if err != nil {
		x.log.Warn("state of the machine not written; a restart of the agent would lose it", "job", x.job.ID, "err", err)
	}
	x.recording = rec
}

// detachRecording leaves the recording to the next start, if there is one.
func (x *execution) detachRecording() {
	if x.recording != nil {
		x.recording.Detach()
	}
}

// discardRecording forgets a run that began nothing.
func (x *execution) discardRecording() {
	if x.recording == nil {
		return
	}
	if err := x.recording.Discard(); err != nil {
		x.log.Warn("record of the machine's state not removed", "job", x.job.ID, "err", err)
	}
	x.recording = nil
}

// judge ends the recording and says in o whether the machine was fit to be measured.
func (x *execution) judge(ctx context.Context, result runner.Result, o *jobs.Outcome) {
	if x.recording == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	after := map[string]string{"runner": o.Runner, "image": o.Image.Name, "image_id": o.Image.ID, "image_digest": o.Image.Digest}
	maps.DeleteFunc(after, func(_, value string) bool { return value == "" })
	report, err := x.recording.End(ctx, result.Ended, after)
	if err != nil {
		err = x.waitOut(ctx, "write the machine's state", x.recording.Save)
	}
	if err != nil {
		x.log.Warn("verdict on the machine not written", "job", x.job.ID, "err", err)
	}
	verdict := report.Verdict
	o.Machine = &jobs.Machine{Verdict: string(verdict.Grade), Text: verdict.Line()}
	if verdict.Grade == integrity.Invalid && x.cfg.Integrity.FailInvalid && o.State == jobs.StateCompleted {
		o.State, o.Class, o.ExitCode = jobs.StateFailed, classMachine, -1
		o.Error = "the machine was not fit to be measured: " + verdict.Reasons[0].Text
		o.Fix = cmp.Or(verdict.Reasons[0].Remedy, "see "+integrity.ReportFile+" in the results")
	}
}

// neighbours returns the other jobs whose benchmarks run now.
func (x *execution) neighbours() (names []string) {
	for _, j := range x.cfg.Queue.Active() {
		if j != x.job && j.IsBenchmark() && j.State() == jobs.StateRunning {
			name := "job " + j.ID
			if overlap := x.overlap(j); overlap != "" {
				name += ", which uses " + overlap + " too"
			}
			names = append(names, name)
		}
	}
	return names
}

// comparable returns what two runs must have in common to be compared, as far as it is
// known before a run.
func (x *execution) comparable() map[string]string {
	id, spec, rec := x.cfg.Identity(), x.job.Command.Spec, x.job.Record()
	of := map[string]string{
		"agent": id.Name, "agent_version": id.Version, "model": cmp.Or(rec.ModelName, spec.Model), "model_path": rec.ModelPath, "model_hash": rec.ModelHash,
		"engine": spec.Engine, "engine_mode": spec.Mode, "suite": spec.Suite,
	}
	if m := id.Machine; m != nil {
		of["fingerprint"], of["driver"], of["cuda"], of["cuda_driver"] = m.Fingerprint(), m.DriverVersion, m.CUDAVersion, m.CUDADriver
		of["os"], of["cpu"] = m.OS, m.CPU.Model
		var models, uuids []string
		for _, g := range gpusOf(m, x.gpus()) {
			models, uuids = append(models, g.Model), append(uuids, g.UUID)
		}
		of["gpus"], of["gpu_uuids"] = strings.Join(models, ", "), strings.Join(uuids, ", ")
	}
	maps.DeleteFunc(of, func(_, value string) bool { return strings.Trim(value, ", ") == "" })
	for key, value := range of {
		of[key] = jobs.Cut(x.cfg.Secrets.Text(value), 4096)
	}
	return of
}

// publish copies what is known of the machine to the job's results.
func (x *execution) publish(ctx context.Context) {
	err := x.waitOut(ctx, "copy the verdict on the machine", func() error {
		return integrity.Publish(x.job.Dir, x.job.ResultsDir())
	})
	if err != nil && !x.left {
		x.log.Warn("verdict on the machine not copied to the results", "job", x.job.ID, "err", err)
		x.jobLog.Note(fmt.Sprintf("Warning: the verdict on the machine could not be copied to the results (%v); it is in %s", err, x.job.Dir))
	}
}

// integrityInfo is what is under IntegrityKey.
type integrityInfo struct {
	Schema   string                     `json:"schema"`
	Verdict  integrity.Grade            `json:"verdict"`
	Text     string                     `json:"text"` // as the job's log has it
	Reasons  []integrity.Reason         `json:"reasons"`
	Unjudged []integrity.UnjudgedFigure `json:"unjudged"`
	Summary  []integrity.GPUSummary     `json:"summary"`
	Samples  int                        `json:"samples"`
	Cache    *integrity.PageCache       `json:"page_cache,omitempty"`
	Identity map[string]string          `json:"identity"`
}

// maxIntegrityInfo bounds what is under IntegrityKey, in bytes of JSON.
const maxIntegrityInfo = 64 << 10

// integrityData returns what result data say of the machine, as decoded JSON; nil if
// nothing was recorded.
func (x *execution) integrityData() any {
	report, err := integrity.ReadReport(filepath.Join(x.job.Dir, integrity.ReportFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			x.log.Warn("verdict on the machine not read", "job", x.job.ID, "err", err)
		}
		return nil
	}
	v := report.Verdict
	for most := maxGPUs; ; most /= 2 {
		data, err := json.Marshal(integrityInfo{
			Schema: report.Schema, Verdict: v.Grade, Text: v.Line(), Samples: report.Samples.Count, Cache: report.PageCache, Identity: report.Identity,
			Reasons: v.Reasons[:min(len(v.Reasons), most)], Unjudged: v.Unjudged[:min(len(v.Unjudged), most)],
			Summary: report.Samples.GPUs[:min(len(report.Samples.GPUs), most)],
		})
		var decoded any
		if err == nil && (len(data) <= maxIntegrityInfo || most == 0) && json.Unmarshal(data, &decoded) == nil {
			return decoded
		}
		if most == 0 {
			return nil
		}
	}
}
