package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// makeParents makes the directories above a copy and its stage. It returns those
// that exist only for copies; they are removed with the last of these.
func (r *copyRun) makeParents(ctx context.Context, claimed *os.File) (made []rawText, err error) {
	d, rel := r.dir, r.target
	err = d.locked(ctx, func() error {
		known, err := r.knownParents(claimed)
		if err != nil {
			return err
		}
		c := claim{Path: rawText(rel)}
		for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
			if _, err := d.root.Lstat(dir); !errors.Is(err, fs.ErrNotExist) && !slices.Contains(known, rawText(dir)) {
				break
			}
			c.Made++
		}
		// From here on the claim says what a crash leaves behind.
		if err := writeClaim(claimed, c); err != nil {
			return iofault.Explain("claim", rel, err)
		}
		made = c.parents()
		err = d.root.MkdirAll(path.Dir(rel), 0o755)
		if err == nil {
			err = os.Mkdir(d.stage(rel), 0o700)
		}
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return iofault.Explain("make the directory for", rel, err)
	})
	return made, err
}

// knownParents lists the directories that were made for copies.
func (r *copyRun) knownParents(claimed *os.File) ([]rawText, error) {
	d := r.dir
	all, err := d.copies.all()
	if err != nil {
		return nil, iofault.Explain("list the copies in", d.dir, err)
	}
	running, abandoned, err := d.claims.list(r.target)
	if err != nil {
		return nil, iofault.Explain("list the unfinished copies in", d.dir, err)
	}
	before, _ := readClaim(claimed) // of an interrupted run
	known := before.parents()
	for _, c := range slices.Concat(running, abandoned) {
		known = append(known, c.parents()...)
	}
	for _, m := range all {
		known = append(known, m.Parents...)
	}
	return known, nil
}

// removeUnstarted removes the stage of a copy that failed before its first byte,
// its claim, and the directories that were made for it.
func (r *copyRun) removeUnstarted(claimed *os.File, parents []rawText) error {
	d, stage := r.dir, r.dir.stage(r.target)
	if _, err := os.Lstat(stage + "/data"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := errors.Join(d.disk.removeAll(stage), os.Remove(claimed.Name()))
	// The copy's own context may be done.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(err, d.locked(ctx, func() error { // other agents make directories for their copies
		d.pruneParents(r.target, parents)
		return nil
	}))
}
