package results

import (
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	indexFile = "index.json"

	// indexVersion is that of the index. Raise it when a [Summary] is made in another
	// way: an index of another version is not used.
	indexVersion = 1

	// maxIndex is the longest index, in bytes: about 100,000 runs.
	maxIndex = 128 << 20

	// racy is the age below which a directory may change without its time of change
	// doing so: that advances in steps, of 4 ms on ext4, and of 2 s on some.
	racy = 3 * time.Second
)

// index is what List found, so that the next List need not read it again.
type index struct {
	Version int              `json:"version"`
	Entries map[string]entry `json:"entries"` // by the place's key
}

type entry struct {
	stamp
	Run *Summary `json:"run,omitempty"` // nil if there is none
}

// readIndex returns the index; an empty one if it cannot be used.
func (s *Store) readIndex() index {
	var ix index
	err := base.ReadJSON(filepath.Join(s.AnalysisDir(), indexFile), &ix, maxIndex)
	if err != nil || ix.Version != indexVersion {
		return index{}
	}
	return ix
}

// writeIndex writes the index of what was found at the time given, without what may
// still change unseen. Its errors are of no consequence but time.
func (s *Store) writeIndex(found []place, at time.Time) {
	ix := index{Version: indexVersion, Entries: make(map[string]entry, len(found))}
	for _, p := range found {
		ended := p.run == nil || !p.run.Ended.IsZero()
		if p.known && ended && at.Sub(time.Unix(0, p.stamp.Modified)) > racy {
			ix.Entries[p.key] = entry{p.stamp, p.run}
		}
	}
	if text, err := base.EncodeJSON(ix); err == nil && len(text) <= maxIndex {
		_ = s.WriteFile(indexFile, text)
	}
}
