package modelcopy

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// plan lists the files to copy, compares them with what is staged already,
// reserves space and makes the directories.
func (c *copier) plan(ctx context.Context, timers []*OpTimer) error {
	staged, whole, sparse := c.planFiles()
	inSparse, err := c.dataOfSparse(ctx, timers, sparse)
	if err != nil {
		return err
	}
	whole += inSparse
	memory := memoryTotal()
	c.huge = memory > 0 && c.tree.bytes > memory/2
	c.Counters.begin(c.tree)
	if err := c.probeSharing(timers[0]); err != nil {
		return err
	}
	if c.sharing != shareNothing {
		staged, whole = 0, 0
	}
	if staged > 0 {
		c.Note(fmt.Sprintf("resuming an interrupted copy: up to %s are already copied", base.Size(staged)))
	}
	if err := c.Reserve(max(whole-staged, 0), whole); err != nil {
		return err
	}
	return c.makeDirectories()
}

// planFiles fills c.files. It returns how many bytes are staged already, how many
// the model takes on disk without its sparse files, and these.
func (c *copier) planFiles() (staged, cost int64, sparse []*entry) {
	c.files = make([]*fileCopy, 0, c.tree.files)
	files := make([]fileCopy, c.tree.files)
	hashes := hashAllocator()
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		if e.kind == KindDir {
			cost += zeroBlock
		}
		if e.kind != KindFile {
			continue
		}
		f := &files[len(c.files)]
		f.entry, f.hashes, f.had = e, hashes(pieces(e.size, c.journal.piece)), c.journal.had(e)
		f.left.Store(int32(len(f.hashes)))
		c.files = append(c.files, f)
		if f.had != nil {
			if info, err := c.into.Root.Lstat(to(e.path)); err == nil {
				staged += metaOf(info).allocated
			}
		}
		if e.holes {
			sparse = append(sparse, e)
		} else {
			cost += (e.size + zeroBlock - 1) &^ (zeroBlock - 1)
		}
	}
	return staged, cost, sparse
}

// hashAllocator returns a function that allocates hashes. Many files have one
// piece, so their hashes share large allocations.
func hashAllocator() func(n int) []hash {
	var spare []hash
	return func(n int) []hash {
		if n > cap(spare)-len(spare) {
			spare = make([]hash, 0, max(n, 4096))
		}
		at := len(spare)
		spare = spare[:at+n]
		return spare[at : at+n : at+n]
	}
}

// dataOfSparse returns how many bytes of sparse files are not holes.
func (c *copier) dataOfSparse(ctx context.Context, timers []*OpTimer, sparse []*entry) (int64, error) {
	var sum atomic.Int64
	err := parallel(ctx, timers, len(sparse), func(t *OpTimer, i int) error {
		at := c.srcOf(sparse[i])
		t.Begin(&opOpen, &at)
		defer t.End()
		f, err := c.src.Open(at)
		if err != nil {
			return iofault.Explain("open", at, err)
		}
		sum.Add(dataBytes(f, sparse[i].size))
		return f.Close()
	})
	return sum.Load(), err
}
