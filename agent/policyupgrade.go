package agent

import (
	"fmt"
	"path"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/storage"
)

const (
	// policyVersion is that of the limits that Config.Policy can set. A start that
	// finds jobs from before a version lists those that it would refuse.
	policyVersion = 1

	// policyReview is how far back that start looks, and policyListed how many jobs it
	// lists.
	policyReview = 30 * 24 * time.Hour
	policyListed = 20
)

// reviewPolicy lists the jobs of before the policy that it would refuse today, at the
// first start that has it.
func (a *Agent) reviewPolicy(all []*jobs.Job) {
	p := a.cfg.Policy
	limits := p.StorageDirs != nil || p.ModelDirs != nil || p.Images != nil
	if !limits || a.memory.get().Policy >= policyVersion {
		return
	}
	refused := 0
	var example string
	for _, j := range all {
		if time.Since(j.AcceptedAt) > policyReview {
			continue
		}
		err := a.wouldRefuse(j)
		if err == nil {
			continue
		}
		if refused++; refused <= policyListed {
			a.cfg.Logger.Warn("this job would be refused today", "job", j.ID, "model", printable(j.Command.Spec.Model), "err", err)
		}
		example = fmt.Sprintf("%s: %v", j.ID, err)
	}
	if refused > 0 {
		a.cfg.Logger.Warn("the policy would refuse jobs of the last 30 days", "jobs", refused)
		a.notices.Warn(fmt.Sprintf("The policy would refuse %d of the jobs of the last 30 days, such as %s", refused, example))
	}
	a.memory.set(func(r *remembered) { r.Policy = policyVersion })
}

// wouldRefuse returns why the policy would refuse what a job used.
func (a *Agent) wouldRefuse(j *jobs.Job) error {
	rec, p := j.Record(), a.cfg.Policy
	if rec.Image != "" && rules.Image(rec.Image) == nil && !a.allowsImage(rec.Image) {
		if err := p.CheckImage(rec.Image); err != nil {
			return fmt.Errorf("image %s: %w", printable(rec.Image), err)
		}
	}
	switch {
	case !path.IsAbs(rec.ModelPath):
		return nil
	case rec.ModelOrigin == storage.OriginInPlace:
		return p.CheckModel(rec.ModelPath)
	case p.AllowsStorage(rec.ModelPath):
		return nil
	}
	return p.CheckSetting(policy.ModelStorageDir, path.Dir(rec.ModelPath))
}

// allowsImage reports whether AllowedImages names the image.
func (a *Agent) allowsImage(image string) bool {
	return len(a.cfg.AllowedImages) > 0 && checkImage(a.cfg.AllowedImages)(image) == nil
}
