package integrity

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Bounds on what a benchmark says of its phases.
const (
	maxPhases    = 1000
	maxPhaseLine = 200 // bytes
	phasePause   = time.Second
)

// A Phase is a part of a run.
type Phase struct {
	Name    string     `json:"name"`
	From    time.Time  `json:"from"`
	To      *time.Time `json:"to,omitempty"`      // nil if it goes on
	Derived bool       `json:"derived,omitempty"` // from the GPUs' use; else the benchmark named it
}

// readPhases returns the lines of the file at path after the first skip ones. The
// benchmark writes it: what is not a regular file, too long, or no whole line yet is left
// out, and what is not printable is replaced.
func readPhases(path string, skip int) (names []string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("the file of phases is not a regular file"))
	}
	return phaseLines(io.LimitReader(f, maxPhases*(maxPhaseLine+1)), skip)
}

func phaseLines(r io.Reader, skip int) (names []string, err error) {
	lines := bufio.NewReader(r)
	for n := 0; n < maxPhases; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return names, err
		}
		if n < skip {
			continue
		}
		name := strings.TrimSpace(line)
		if len(name) > maxPhaseLine {
			name = strings.ToValidUTF8(name[:maxPhaseLine], "")
		}
		names = append(names, base.Printable(name, maxPhaseLine))
	}
	return names, nil
}

// addPhases notes phases that begin now, and reports whether there are any.
func (r *Report) addPhases(names []string, now time.Time) bool {
	for _, name := range names {
		if len(r.Phases) == maxPhases {
			break
		}
		if n := len(r.Phases); n > 0 {
			r.Phases[n-1].To = &now
		}
		r.Phases = append(r.Phases, Phase{Name: name, From: now})
	}
	return len(names) > 0
}

// endPhases ends the last phase. Without any it derives them: the GPUs were first busy
// after loading, and last busy before the tail.
func (r *Report) endPhases(end time.Time) {
	if n := len(r.Phases); n > 0 {
		r.Phases[n-1].To = &end
		return
	}
	var first, last *time.Time
	for _, g := range r.Samples.GPUs {
		if g.FirstBusy != nil && (first == nil || g.FirstBusy.Before(*first)) {
			first = g.FirstBusy
		}
		if g.LastBusy != nil && (last == nil || g.LastBusy.After(*last)) {
			last = g.LastBusy
		}
	}
	if first == nil || last == nil {
		return
	}
	r.Phases = []Phase{
		{Name: "load", From: r.Start.Time, To: first, Derived: true},
		{Name: "measure", From: *first, To: last, Derived: true},
		{Name: "tail", From: *last, To: &end, Derived: true},
	}
}
