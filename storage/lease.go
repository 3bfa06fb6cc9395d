package storage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// A leaseFile is a lease on disk. It lasts until it is released, even if the
// process that took it dies.
type leaseFile struct {
	Holder string    `json:"holder"`
	Owner  string    `json:"owner"` // the agent
	Model  rawText   `json:"model"` // as requested
	Path   rawText   `json:"path"`  // below the storage directory
	Since  time.Time `json:"since"`
	Nonce  string    `json:"nonce"` // distinguishes a lease from a later one of the same holder
}

// A leaseStore is the directory of leases.
type leaseStore struct{ dir string }

func (s leaseStore) path(rel, owner, holder string) string {
	return filepath.Join(s.dir, keyOf(rel)+"."+keyOf(owner+"\x00"+holder))
}

// takeLease takes a lease on the copy at rel, or returns the one that the holder
// has. Under the lock it first calls check, whose error ends it.
func (d *modelDir) takeLease(ctx context.Context, rel, owner string, req Request, check func() error) (leaseFile, error) {
	name := d.leases.path(rel, owner, req.Holder)
	l, ok := readLease(name)
	var file *newFile
	if !ok {
		l = leaseFile{Holder: req.Holder, Owner: owner, Model: rawText(req.Model), Path: rawText(rel), Since: time.Now().UTC(), Nonce: rand.Text()}
		data, err := json.Marshal(l)
		if err != nil {
			return l, err
		}
		file, err = d.tmp.create(ctx, func(w io.Writer) error { _, err := w.Write(data); return err })
		if err != nil {
			return l, err
		}
	}
	err := d.locked(ctx, func() error {
		if err := check(); err != nil {
			return err
		}
		now, held := readLease(name)
		switch {
		case held:
			l = now
			return nil
		case file == nil: // it was released meanwhile
			return errChanged
		}
		return file.install(name)
	})
	return l, errors.Join(err, file.discard())
}

// releaseLocked releases l and reports whether that was the copy's last lease. It
// does nothing if l is no longer the holder's lease. The directory's lock must be
// held.
func (s leaseStore) releaseLocked(l leaseFile) (last bool, err error) {
	name := s.path(string(l.Path), l.Owner, l.Holder)
	if now, ok := readLease(name); !ok || now.Nonce != l.Nonce {
		return false, nil
	}
	if err := os.Remove(name); err != nil {
		return false, err
	}
	left, err := s.of(string(l.Path))
	return len(left) == 0, err
}

func readLease(name string) (l leaseFile, ok bool) {
	err := base.ReadJSON(name, &l, maxLease)
	return l, err == nil && beneath.IsClean(string(l.Path))
}

// maxLease bounds the file of a lease, in bytes.
const maxLease = 64 << 10

// of lists the leases on the copy at rel, oldest first.
func (s leaseStore) of(rel string) ([]leaseFile, error) { return s.list(keyOf(rel)) }

// all lists all leases, oldest first.
func (s leaseStore) all() ([]leaseFile, error) { return s.list("") }

// list lists the leases on the copy with that key, or all for an empty key. A
// lease that cannot be read counts, so that its copy stays.
func (s leaseStore) list(key string) ([]leaseFile, error) {
	names, err := readDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all []leaseFile
	for _, e := range names {
		of, _, ok := strings.Cut(e.Name(), ".")
		if !ok || of == "" || key != "" && of != key { // a name that begins with a dot is a temporary file
			continue
		}
		name := filepath.Join(s.dir, e.Name())
		l, ok := readLease(name)
		if !ok {
			if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
				continue // released meanwhile
			}
			l = leaseFile{Holder: "unknown"}
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b leaseFile) int { return a.Since.Compare(b.Since) })
	return all, nil
}

func holderNames(leases []leaseFile) string {
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Holder
	}
	return strings.Join(names, ", ")
}
