package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A job does not wait until its model's copy is durable. Instead the copy gets a
// marker once it is. After a power cut or reboot, a copy without the marker is
// hashed again before its first use.

// syncDelay is how long a copy waits before it is synced, so that the job can start
// first. The kernel has written much of it by then.
const syncDelay = 2 * time.Second

// markDurable writes a copy to disk after syncDelay, or earlier if closing is
// closed, and then its marker.
func (d *modelDir) markDurable(rel string, closing <-chan struct{}, log *slog.Logger) {
	select {
	case <-time.After(syncDelay):
	case <-closing:
	}
	err := d.disk.syncAround(d.abs(rel))
	if err == nil {
		err = d.writeMarker(context.Background(), rel)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be removed already
		log.Warn("copy may not be durable", "model", rel, "err", err)
	}
}

// writeMarker marks a copy as durable.
func (d *modelDir) writeMarker(ctx context.Context, rel string) error {
	file, err := d.tmp.create(ctx, func(io.Writer) error { return nil })
	if err != nil {
		return err
	}
	return errors.Join(file.install(d.copies.durable(rel)), file.discard())
}

// verifyAfterReboot makes sure that a copy is what was copied if the machine was
// rebooted before the copy was durable. It returns errChanged if it is damaged.
func (c localCopy) verifyAfterReboot(ctx context.Context, out *requestLog) error {
	if c.Boot == "" || c.Boot == base.BootID() {
		return nil
	}
	if _, err := os.Lstat(c.dir.copies.durable(c.Path)); err == nil {
		return nil
	}
	out.line("checking the copy of " + c.Path + ", which was made shortly before the machine restarted")
	damaged, err := c.rehash(ctx, func(int64) {})
	if err != nil {
		return iofault.Explain("check", c.Path, err)
	}
	if len(damaged) == 0 {
		return iofault.Explain("write", c.dir.copies.durable(c.Path), c.dir.writeMarker(ctx, c.Path))
	}
	out.line("the copy of " + c.Path + " was damaged by the restart: " + base.Names(damaged[:min(len(damaged), 3)]...))
	return errChanged
}

// removeDamaged removes a damaged copy. It returns errChanged, so that the caller
// copies the model again, or why the copy stays.
func (c localCopy) removeDamaged(ctx context.Context) error {
	kept, err := c.remove(ctx, true)
	if err != nil {
		return iofault.Explain("remove", c.Path, err)
	}
	if kept != "" {
		return fault.New(ClassDamaged, "run: kitt-agent models rm "+c.Path, "the copy of %q is damaged and stays because %s", c.Path, kept)
	}
	return errChanged
}
