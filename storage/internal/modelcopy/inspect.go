package modelcopy

import (
	"context"
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// An Inspection is what Inspect found.
type Inspection struct {
	// Linked means that the model is of no use in a container that has only the
	// model: symbolic links in it are absolute or lead out of it.
	Linked bool

	// Print is equal for two inspections that found the same files.
	Print string
}

// Inspect scans the model of o, from which it needs Share, Model, Files, Link and
// Note. It returns an error if part of the model is missing.
func Inspect(ctx context.Context, o Options, timers []*OpTimer) (found Inspection, err error) {
	timers[0].Begin(&opOpen, &o.Share)
	src, err := OpenSource(o.Share)
	timers[0].End()
	if err != nil {
		return found, iofault.Explain("open", o.Share, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	t, err := scan(ctx, src, o, timers, false)
	if err != nil {
		return found, err
	}
	return Inspection{Linked: t.linked, Print: t.print.String()}, checkComplete(ctx, src, t, o, timers)
}

// String returns the fingerprint as text.
func (f fingerprint) String() string {
	return fmt.Sprintf("%d-%016x%016x", f.entries, f.sum[1], f.sum[0])
}
