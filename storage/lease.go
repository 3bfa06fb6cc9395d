package storage

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// A leaseFile is a lease on disk. It holds until it is released, whatever
// becomes of the process that took it.
type leaseFile struct {
	Holder string    `json:"holder"`
	Owner  string    `json:"owner"` // the agent
	Model  rawText   `json:"model"` // as it was asked for
	Path   rawText   `json:"path"`  // below the storage directory
	Since  time.Time `json:"since"`
	Nonce  string    `json:"nonce"` // tells a lease from a later one of the same holder
}

func (p *place) leasePath(rel, owner, holder string) string {
	return p.own("leases", keyOf(rel)+"."+keyOf(owner+"\x00"+holder))
}

// lease takes a lease on the copy at rel, or finds the one that the holder has.
// The lock must be held.
func (p *place) leaseLocked(rel, owner string, req Request) (leaseFile, error) {
	name := p.leasePath(rel, owner, req.Holder)
	if l, ok := readLease(name); ok {
		return l, nil
	}
	l := leaseFile{Holder: req.Holder, Owner: owner, Model: rawText(req.Model), Path: rawText(rel), Since: time.Now().UTC(), Nonce: rand.Text()}
	data, err := json.Marshal(l)
	if err != nil {
		return l, err
	}
	return l, writeFile(name, data)
}

// releaseLocked gives l up and reports whether that was the copy's last lease.
// It does nothing if l is not the holder's lease any more. The lock must be
// held.
func (p *place) releaseLocked(l leaseFile) (last bool, err error) {
	name := p.leasePath(string(l.Path), l.Owner, l.Holder)
	if now, ok := readLease(name); !ok || now.Nonce != l.Nonce {
		return false, nil
	}
	if err := os.Remove(name); err != nil {
		return false, err
	}
	left, err := p.leases(keyOf(string(l.Path)))
	return len(left) == 0, err
}

func readLease(name string) (l leaseFile, ok bool) {
	data, err := os.ReadFile(name)
	return l, err == nil && json.Unmarshal(data, &l) == nil
}

// leases lists the leases on a copy, or all if key is empty, oldest first. A
// lease that cannot be read counts: better a copy too many than one too few.
func (p *place) leases(key string) ([]leaseFile, error) {
	names, err := os.ReadDir(p.own("leases"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []leaseFile
	for _, d := range names {
		of, _, ok := strings.Cut(d.Name(), ".")
		if !ok || of == "" || key != "" && of != key || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		l, ok := readLease(p.own("leases", d.Name()))
		if !ok {
			if _, err := os.Lstat(p.own("leases", d.Name())); errors.Is(err, fs.ErrNotExist) {
				continue // released meanwhile
			}
			l = leaseFile{Holder: "unknown"}
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b leaseFile) int { return a.Since.Compare(b.Since) })
	return all, nil
}
