package supervisor

import (
	"bytes"
	"fmt"
)

// Gaps is the file gaps.json: which parts of the output were removed to save
// space. It is written before they are removed, in place, since a full disk has
// no room for another file.
type Gaps struct {
	Version int `json:"version"`

	// Freed is where the output begins that is still there, in bytes. What comes
	// before is a hole.
	Freed int64 `json:"freed"`

	// Unread are the ranges among it that the agent had not read, in order. Of
	// very many, neighbours are joined.
	Unread []Range `json:"unread"`
}

func (g Gaps) version() int { return g.Version }

// A Range is the bytes from From up to and without To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

const (
	gapsSize = 4096 // bytes of the file, blanks included
	maxGaps  = 64
)

// add notes that the output up to to is removed, and that it was read up to
// read.
func (g *Gaps) add(read, to int64) {
	from := max(g.Freed, read)
	g.Freed = max(g.Freed, to)
	if from >= to {
		return
	}
	if last := len(g.Unread) - 1; last >= 0 && (g.Unread[last].To == from || len(g.Unread) == maxGaps) {
		g.Unread[last].To = to
		return
	}
	g.Unread = append(g.Unread, Range{from, to})
}

// encode returns the file's text.
func (g Gaps) encode() ([]byte, error) {
	g.Version = Version
	text, err := encode(g)
	if err != nil || len(text) > gapsSize {
		return nil, fmt.Errorf("%s: %d bytes: %w", GapsFile, len(text), err)
	}
	return append(text, bytes.Repeat([]byte{' '}, gapsSize-len(text))...), nil
}

// parseGaps reads the file's text. Numbers that can't be are refused.
func parseGaps(text []byte) (Gaps, error) {
	g, err := decode[Gaps](GapsFile, text)
	if err != nil {
		return Gaps{}, err
	}
	at := int64(0)
	for _, r := range g.Unread {
		if r.From < at || r.To <= r.From || r.To > g.Freed {
			return Gaps{}, fmt.Errorf("%s: the range %d to %d can't be", GapsFile, r.From, r.To)
		}
		at = r.To
	}
	if g.Freed < 0 {
		return Gaps{}, fmt.Errorf("%s: %d bytes can't be", GapsFile, g.Freed)
	}
	return g, nil
}
