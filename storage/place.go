package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/zeebo/xxh3"
)

// A place is one storage directory. What it knows about itself is in files in
// its directory .kitt, so that it holds over restarts and for other agents of
// the host that use the same directory:
//
//	lock               held (flock) for every change of what follows
//	copies/KEY.jsonl   the manifest of a copy; its own time is when it was last used
//	copies/KEY.synced  the copy is known to be on disk
//	copies/KEY.gone    the manifest of a copy that is being removed
//	leases/KEY.HOLDER  a lease
//	claims/KEY         a copy that is being made, locked while it is, and the
//	                   space that it still needs
//
// A manifest is written before its copy appears and goes before its copy does,
// so what has no manifest is not ours.
type place struct {
	name string // as it is set
	dir  string // absolute, without links
	root *os.Root
	turn chan struct{} // the lock, inside this process
}

const lockPoll = 20 * time.Millisecond

// openPlace opens a storage directory that exists.
func openPlace(dir string) (*place, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return nil, err
	}
	return &place{name: dir, dir: real, root: root, turn: make(chan struct{}, 1)}, nil
}

// current reports whether the directory is still the one of that name: it may have
// been removed and made anew, or a disk mounted over it.
func (p *place) current() bool {
	opened, err := p.root.Stat(".")
	if err != nil {
		return false
	}
	named, err := os.Stat(p.name)
	return err == nil && os.SameFile(opened, named)
}

func (p *place) own(names ...string) string {
	return filepath.Join(append([]string{p.dir, ownDir}, names...)...)
}

func (p *place) abs(rel string) string { return filepath.Join(p.dir, rel) }

// keyOf names the copy of the model at rel in file names.
func keyOf(rel string) string { return hash(xxh3.HashString128(rel).Bytes()).String() }

// ready makes the directories of our own.
func (p *place) ready() error {
	for _, name := range []string{"copies", "leases", "claims"} {
		if err := p.root.MkdirAll(path.Join(ownDir, name), 0o755); err != nil {
			return &Error{Kind: ClassUnreadable, Text: "the storage directory " + p.dir + " cannot be written: " + err.Error(),
				Remedy: "give the agent's user write access to it", Err: err}
		}
	}
	return nil
}

// used reports whether anything was ever copied here.
func (p *place) used() bool {
	_, err := p.root.Lstat(ownDir + "/copies")
	return err == nil
}

// lock takes the lock that every change is made under. It is held for moments.
func (p *place) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	file, err := waitLock(ctx, p.own("lock"), nil)
	if err != nil {
		<-p.turn
		return nil, err
	}
	return func() {
		_ = file.Close() // nothing was written to it
		<-p.turn
	}, nil
}

// waitLock opens and locks a file that is there as long as it is locked or
// wanted. waiting is called once in a while meanwhile.
func waitLock(ctx context.Context, name string, waiting func(*os.File)) (*os.File, error) {
	for {
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		ok, err := tryLock(file)
		if err == nil && ok {
			// Its last owner may have removed it in between.
			opened, statErr := file.Stat()
			there, err := os.Lstat(name)
			if statErr == nil && err == nil && os.SameFile(opened, there) {
				return file, nil
			}
		} else if err == nil && waiting != nil {
			waiting(file)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		if ok {
			continue
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// resolve returns the path without links of something in the storage directory.
func (p *place) resolve(rel string) (string, error) {
	return resolveIn(p.root, []string{p.dir, p.name}, rel)
}

// A claim is a copy that is being made, or that was given up.
type claim struct {
	Path rawText `json:"path"`           // below the storage directory
	Left int64   `json:"left"`           // bytes that it still takes
	Done int64   `json:"done"`           // bytes that are here
	Size int64   `json:"size"`           // of the whole model
	Made int     `json:"made,omitempty"` // how many of the directories above it were made for copies
}

// stage is where the copy is made: beside the place where it will be.
func (p *place) stage(rel string) string {
	return p.abs(path.Join(path.Dir(rel), partPrefix+keyOf(rel)))
}

func (p *place) gone(rel string) string {
	return p.abs(path.Join(path.Dir(rel), gonePrefix+keyOf(rel)))
}

// rel is the path as it is used.
func (c claim) rel() string { return string(c.Path) }

// parents are the directories above the copy that were made for copies, the
// innermost first.
func (c claim) parents() (dirs []rawText) {
	for dir := path.Dir(c.rel()); dir != "." && len(dirs) < c.Made; dir = path.Dir(dir) {
		dirs = append(dirs, rawText(dir))
	}
	return dirs
}

const maxClaim = 64 << 10

func writeClaim(file *os.File, c claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(data)))
}

func readClaim(file *os.File) (claim, bool) {
	data := make([]byte, maxClaim)
	n, _ := file.ReadAt(data, 0) // a short file is the rule
	return parseClaim(data[:n])
}

// parseClaim reads a claim. A crash may have left the end of a longer one behind
// it.
func parseClaim(data []byte) (c claim, ok bool) {
	err := json.NewDecoder(bytes.NewReader(data)).Decode(&c)
	return c, err == nil && cleanRel(c.rel()) && !reserved(c.rel())
}

// claims lists the copies that are being made, by anybody, and those that were
// given up half-way. except is the key of one that is left out.
func (p *place) claims(except string) (running, left []claim, err error) {
	names, err := os.ReadDir(p.own("claims"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, d := range names {
		if d.Name() == except {
			continue
		}
		file, err := os.OpenFile(p.own("claims", d.Name()), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		free, err := tryShared(file)
		c, ok := readClaim(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, nil, err
		}
		switch {
		case !ok || keyOf(c.rel()) != d.Name():
		case free:
			left = append(left, c)
		default:
			running = append(running, c)
		}
	}
	return running, left, nil
}

// dropLeft removes what a copy that was given up left behind, unless it is
// being made again.
func (p *place) dropLeft(c claim) (bool, error) {
	name := p.own("claims", keyOf(c.rel()))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // only its lock matters
	if free, err := tryLock(file); err != nil || !free {
		return false, err
	}
	if err := os.RemoveAll(p.stage(c.rel())); err != nil {
		return false, err
	}
	// A crash just before the copy appeared leaves a manifest, which would make
	// ours what somebody puts there.
	m, err := p.copyAt(c.rel())
	if err == nil && m == nil {
		err = os.Remove(p.manifestPath(keyOf(c.rel())))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, os.Remove(name)
}

// writeFile writes a small file of our own so that it is whole or not there.
func writeFile(name string, data []byte) error {
	return renameio.WriteFile(name, data, 0o644, renameio.WithStaticPermissions(0o644))
}

// statSpace returns the space of the file system that dir is, or will be, on.
func statSpace(dir string) (free, used int64, err error) {
	for {
		free, used, err = diskSpace(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" || dir == "." {
			return free, used, err
		}
		dir = filepath.Dir(dir)
	}
}

// isOurs reports whether a name in the storage directory is of our own making.
func isOurs(name string) bool {
	return name == ownDir || strings.HasPrefix(name, partPrefix) || strings.HasPrefix(name, gonePrefix)
}
