package gpusets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// An Allocator knows which job holds which devices. Its methods are safe for concurrent
// use and return at once.
type Allocator struct {
	cfg     Config
	machine func() *hwdetect.Machine // the latest description, nil before there is one

	mu   sync.Mutex
	held map[string][]string // UUIDs by job; nil for the whole machine. guarded by mu
}

// New returns an allocator of the sets of cfg, or nil if it has none. machine returns the
// latest description of the machine at once, nil before there is one.
func New(cfg Config, machine func() *hwdetect.Machine) (*Allocator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !cfg.Enabled() {
		return nil, nil
	}
	return &Allocator{cfg: cfg, machine: machine, held: map[string][]string{}}, nil
}

// ErrNone is matched by the error of Take if there is no set for a job now.
var ErrNone = errors.New("no GPUs for the job")

// Take gives a job a set, which it holds until Release, and returns its UUIDs. A job that
// holds a set gets the same one. The error says why there is none.
func (a *Allocator) Take(job string) ([]string, error) {
	devices := Devices(a.machine()) // before the lock: it is not ours
	a.mu.Lock()
	defer a.mu.Unlock()
	if set, holds := a.held[job]; holds {
		return slices.Clone(set), nil
	}
	for holder, set := range a.held {
		if set == nil {
			return nil, fmt.Errorf("%w: job %s, which began before there were sets, has all of them", ErrNone, holder)
		}
	}
	if len(devices) == 0 {
		return nil, fmt.Errorf("%w: the machine has none, or they are not known yet", ErrNone)
	}
	set, why := a.pickLocked(devices)
	if set == nil {
		return nil, fmt.Errorf("%w: %s", ErrNone, why)
	}
	a.held[job] = set
	return slices.Clone(set), nil
}

// pickLocked returns a set that no job holds, or why there is none. a.mu must be held.
func (a *Allocator) pickLocked(devices []Device) (set []string, why string) {
	if a.cfg.PerJob > 0 {
		free := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return d.Fault != "" || a.holderLocked(d.UUID) != "" })
		for _, d := range choose(free, a.cfg.PerJob) {
			set = append(set, d.UUID)
		}
		return set, fmt.Sprintf("%d of one kind are needed, and of %d %d are free and usable", a.cfg.PerJob, len(devices), len(free))
	}
	var unusable []string
	for i, names := range a.cfg.Sets {
		set, fault := resolve(devices, names)
		if fault != "" {
			unusable = append(unusable, fmt.Sprintf("set %d can't be used: %s", i+1, fault))
			continue
		}
		if !slices.ContainsFunc(set, func(uuid string) bool { return a.holderLocked(uuid) != "" }) {
			return set, ""
		}
	}
	if len(unusable) == len(a.cfg.Sets) {
		return nil, strings.Join(unusable, "; ")
	}
	return nil, strings.Join(append([]string{"all sets are held"}, unusable...), "; ")
}

// resolve returns the UUIDs of a set, or why it can't be used.
func resolve(devices []Device, names []string) (set []string, fault string) {
	for _, name := range names {
		d, found := Find(devices, name)
		switch {
		case !found:
			return nil, fmt.Sprintf("the machine has no GPU %s that is not in MIG mode, and no MIG instance of that name", name)
		case d.Fault != "":
			return nil, fmt.Sprintf("GPU %s: %s", name, d.Fault)
		case !slices.Contains(set, d.UUID):
			set = append(set, d.UUID)
		}
	}
	return set, ""
}

// holderLocked returns the job that holds a device; empty if none does. a.mu must be held.
func (a *Allocator) holderLocked(uuid string) string {
	for job, set := range a.held {
		if set == nil || slices.Contains(set, uuid) {
			return job
		}
	}
	return ""
}

// Hold has a job hold a set again that its record names, as after a restart, whether the
// devices are still there or not. An empty set stands for the whole machine.
func (a *Allocator) Hold(job string, set []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(set) == 0 {
		a.held[job] = nil
		return
	}
	a.held[job] = slices.Clone(set)
}

// Release takes back what a job holds, if it holds anything.
func (a *Allocator) Release(job string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.held, job)
}

// A Set is one set as it is now.
type Set struct {
	Devices []string // as they are configured, or their UUIDs
	Holder  string   // the job that holds it; empty if none does
	Fault   string   // why no job gets it; empty if jobs do
}

// Sets returns the sets: those that are configured, or those that are held, and those
// that the next jobs would get.
func (a *Allocator) Sets() []Set {
	devices := Devices(a.machine())
	a.mu.Lock()
	defer a.mu.Unlock()
	var sets []Set
	if a.cfg.PerJob == 0 {
		for _, names := range a.cfg.Sets {
			uuids, fault := resolve(devices, names)
			s := Set{Devices: uuids, Fault: fault}
			if uuids == nil {
				s.Devices = names
			}
			for _, uuid := range s.Devices {
				if holder := a.holderLocked(uuid); holder != "" {
					s.Holder = holder
				}
			}
			sets = append(sets, s)
		}
		return sets
	}
	for job, set := range a.held {
		sets = append(sets, Set{Devices: set, Holder: job})
	}
	slices.SortFunc(sets, func(x, y Set) int { return strings.Compare(x.Holder, y.Holder) })
	free := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return d.Fault != "" || a.holderLocked(d.UUID) != "" })
	for {
		chosen := choose(free, a.cfg.PerJob)
		if chosen == nil {
			return sets
		}
		s := Set{}
		for _, d := range chosen {
			s.Devices = append(s.Devices, d.UUID)
		}
		free = slices.DeleteFunc(free, func(d Device) bool { return slices.Contains(s.Devices, d.UUID) })
		sets = append(sets, s)
	}
}
