package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// remove removes our copy at rel unless it is leased or holds what is not ours;
// then it says why not. The files of a damaged copy are no longer what was
// copied, and go all the same.
func (p *place) remove(ctx context.Context, m *manifest, damaged bool) (why string, err error) {
	if err := p.untouched(ctx, m, damaged); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return "it is being removed", nil
		}
		return err.Error(), nil
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return "", err
	}
	why, err = p.hideLocked(m)
	unlock()
	if why != "" || err != nil {
		return why, err
	}
	return "", p.finishRemoval(ctx, m)
}

// hideLocked takes a copy out of sight. The lock must be held.
func (p *place) hideLocked(m *manifest) (why string, err error) {
	key := keyOf(m.Path)
	holders, err := p.leases(key)
	if err != nil {
		return "", err
	}
	if len(holders) > 0 {
		return "in use by " + holderNames(holders), nil
	}
	now, err := p.copyAt(m.Path)
	if err != nil {
		return "", err
	}
	if now == nil || now.Inode != m.Inode {
		return "it is being removed", nil
	}
	if err := os.RemoveAll(p.gone(m.Path)); err != nil {
		return "", err
	}
	if err := os.Rename(p.manifestPath(key), p.own("copies", key+".gone")); err != nil {
		return "", err
	}
	if err := os.Rename(p.abs(m.Path), p.gone(m.Path)); err != nil { // it stays ours
		return "", errors.Join(err, os.Rename(p.own("copies", key+".gone"), p.manifestPath(key)))
	}
	return "", nil
}

// finishRemoval deletes what hideLocked took out of sight.
func (p *place) finishRemoval(ctx context.Context, m *manifest) error {
	key := keyOf(m.Path)
	if err := os.RemoveAll(p.gone(m.Path)); err != nil {
		return err
	}
	unlock, err := p.lock(ctx) // others make directories for their copies
	if err != nil {
		return err
	}
	defer unlock()
	p.pruneParents(m)
	for _, name := range []string{key + ".synced", key + ".gone"} { // the last that a crash needs
		if err := os.Remove(p.own("copies", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pruneParents removes the directories that were made for a copy and are empty.
func (p *place) pruneParents(m *manifest) {
	for dir := path.Dir(m.Path); dir != "."; dir = path.Dir(dir) {
		if !slices.Contains(m.Parents, rawText(dir)) {
			return
		}
		if info, err := p.root.Lstat(dir); err != nil || !info.IsDir() {
			return
		}
		if p.root.Remove(dir) != nil { // it holds something else
			return
		}
	}
}

// finishRemovals goes on with removals that a crash interrupted.
func (p *place) finishRemovals(ctx context.Context) error {
	names, err := os.ReadDir(p.own("copies"))
	if err != nil {
		return err
	}
	for _, d := range names {
		if !strings.HasSuffix(d.Name(), ".gone") {
			continue
		}
		name := p.own("copies", d.Name())
		unlock, err := p.lock(ctx)
		if err != nil {
			return err
		}
		m, err := readManifest(name, nil)
		if err == nil && p.holds(m) {
			// The crash came between the two renames.
			if _, err = os.Lstat(p.manifestPath(keyOf(m.Path))); errors.Is(err, fs.ErrNotExist) {
				err = os.Rename(name, p.manifestPath(keyOf(m.Path)))
			}
			unlock()
			if err != nil {
				return err
			}
			continue
		}
		unlock()
		switch {
		case err == nil:
			if err := p.finishRemoval(ctx, m); err != nil {
				return err
			}
		case errors.Is(err, errManifest), errors.Is(err, io.EOF):
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// dropTorn removes what a crash left of manifests and leases that were being
// written, which is done under the lock.
func (p *place) dropTorn(ctx context.Context) error {
	var torn []string
	for _, dir := range []string{"copies", "leases"} {
		names, err := os.ReadDir(p.own(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, d := range names {
			if strings.HasPrefix(d.Name(), ".") && !strings.Contains(d.Name(), ".synced") {
				torn = append(torn, p.own(dir, d.Name()))
			}
		}
	}
	if len(torn) == 0 {
		return nil
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, name := range torn {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func holderNames(leases []leaseFile) string {
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Holder
	}
	return strings.Join(names, ", ")
}

// A spaceNeed is what a copy needs.
type spaceNeed struct {
	rel      string
	made     int // claim.Made
	bytes    int64
	whole    int64 // bytes with those that are here already
	keepFree int64 // bytes to be left free
	limit    int64 // bytes that all copies may take; 0 for no limit
	wanted   func(*manifest) bool
	note     func(string)
	claim    *os.File
}

// reserve claims space for a copy and makes room if there is too little: first
// goes what copies that were given up left, then the copies that nobody holds,
// the least recently used first and those that a waiting job wants last.
// Nothing goes if it would not be enough.
func (p *place) reserve(ctx context.Context, need spaceNeed) error {
	tried := map[string]bool{}
	for {
		unlock, err := p.lock(ctx)
		if err != nil {
			return err
		}
		short, err := p.shortLocked(need)
		if err != nil {
			unlock()
			return explain("look at the space of", p.dir, err)
		}
		if short <= 0 {
			err := writeClaim(need.claim, claim{Path: rawText(need.rel), Left: need.bytes, Done: need.whole - need.bytes, Size: need.whole, Made: need.made})
			unlock()
			return explain("claim space in", p.dir, err)
		}
		left, idle, busy, err := p.victims(need)
		unlock()
		if err != nil {
			return explain("look at the copies in", p.dir, err)
		}
		left = slices.DeleteFunc(left, func(c claim) bool { return tried[c.rel()] })
		idle = slices.DeleteFunc(idle, func(m *manifest) bool { return tried[m.Path] })
		var free int64
		for _, c := range left {
			free += c.Done
		}
		for _, m := range idle {
			free += m.Bytes
		}
		if free < short {
			return p.tooSmall(need, short, free, idle, busy)
		}
		switch {
		case len(left) > 0:
			tried[left[0].rel()] = true
			if ok, err := p.dropLeft(left[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return explain("remove", left[0].rel(), err)
			} else if ok {
				need.note(fmt.Sprintf("removed the unfinished copy of %s to make room", left[0].Path))
			}
		default:
			tried[idle[0].Path] = true
			why, err := p.remove(ctx, idle[0], false)
			if err != nil {
				return explain("remove", idle[0].Path, err)
			}
			if why == "" {
				need.note(fmt.Sprintf("removed the copy of %s (%s), the least recently used, to make room", idle[0].Path, sizeText(idle[0].Bytes)))
			}
		}
	}
}

// shortLocked returns how many bytes are missing. The lock must be held.
func (p *place) shortLocked(need spaceNeed) (int64, error) {
	running, left, err := p.claims(keyOf(need.rel))
	if err != nil {
		return 0, err
	}
	free, _, err := diskSpace(p.dir)
	if err != nil {
		return 0, err
	}
	avail := free - need.keepFree
	for _, c := range running {
		avail -= c.Left
	}
	short := need.bytes - avail
	if need.limit > 0 {
		all, err := p.copies()
		if err != nil {
			return 0, err
		}
		total := need.whole
		for _, m := range all {
			total += m.Bytes
		}
		for _, c := range running {
			total += c.Size
		}
		for _, c := range left {
			total += c.Done
		}
		short = max(short, total-need.limit)
	}
	return short, nil
}

// victims lists what could be removed, and the copies that cannot.
func (p *place) victims(need spaceNeed) (left []claim, idle, busy []*manifest, err error) {
	_, left, err = p.claims(keyOf(need.rel))
	if err != nil {
		return nil, nil, nil, err
	}
	all, err := p.copies()
	if err != nil {
		return nil, nil, nil, err
	}
	for _, m := range all {
		holders, err := p.leases(keyOf(m.Path))
		if err != nil {
			return nil, nil, nil, err
		}
		if len(holders) > 0 {
			busy = append(busy, m)
		} else {
			idle = append(idle, m)
		}
	}
	slices.SortStableFunc(idle, func(a, b *manifest) int {
		if wa, wb := need.wanted(a), need.wanted(b); wa != wb {
			if wa {
				return 1
			}
			return -1
		}
		return a.lastUsed.Compare(b.lastUsed)
	})
	return left, idle, busy, nil
}

// tooSmall says what is missing and what could go.
func (p *place) tooSmall(need spaceNeed, short, free int64, idle, busy []*manifest) error {
	text := fmt.Sprintf("no room for %s in %s: it needs %s, %s too much", need.rel, p.dir, sizeText(need.bytes), sizeText(short))
	describe := func(ms []*manifest) string {
		var names []string
		for _, m := range ms {
			names = append(names, fmt.Sprintf("%s (%s)", m.Path, sizeText(m.Bytes)))
		}
		if len(names) > 5 {
			names = append(names[:5], fmt.Sprintf("%d more", len(names)-5))
		}
		return strings.Join(names, ", ")
	}
	if len(idle) > 0 {
		text += fmt.Sprintf("; copies that could go would free %s: %s", sizeText(free), describe(idle))
	} else {
		text += "; there are no copies that could go"
	}
	if len(busy) > 0 {
		text += "; in use: " + describe(busy)
	}
	return &Error{Kind: ClassSpace, Text: text, Remedy: "free space on that disk, or set another storage directory"}
}
