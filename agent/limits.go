package agent

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/agent/policy"
)

// fillPolicy returns p with what the machine's own configuration names: dir, where
// the agent keeps its files, and its settings.
func fillPolicy(p policy.Policy, dir string, own map[string]string) policy.Policy {
	m := &p.Machine
	m.StorageDir = cmp.Or(m.StorageDir, own[settingModelDir])
	m.ShareMount = cmp.Or(m.ShareMount, own[settingShareMount])
	m.Image = cmp.Or(m.Image, own[settingImage])
	m.Dir = cmp.Or(m.Dir, dir)
	return p
}

// limit makes the settings refuse what p refuses to the server.
func (s *settings) limit(p policy.Policy) {
	for _, each := range s.all {
		rule := each.check
		each.check = func(text string) error {
			if err := rule(text); err != nil {
				return err
			}
			if err := p.CheckSetting(each.name, text); err != nil {
				return err
			}
			if text == each.looked.value {
				return each.looked.err
			}
			return nil
		}
	}
}

// refusals returns a sentence for each setting of the server's that is not in force
// because it makes no sense or the policy refuses it. The server's defaults are not
// worth one: nobody chose them.
func (s *settings) refusals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, each := range s.all {
		if each.seen == nil || *each.seen == "" || *each.seen == each.fallback {
			continue
		}
		if err := each.check(*each.seen); err != nil {
			all = append(all, each.refusal(*each.seen, err).Error())
		}
	}
	return all
}

// A look is what became of looking at a directory that the server chose.
type look struct {
	value string
	err   error // why it can't be used
}

// lookTimeout is how long that may take: the directory may be on a disk that hangs.
const lookTimeout = 2 * time.Second

var errNoLook = errors.New("looking at it takes too long; it is tried again with the next heartbeat")

// lookAt looks at the storage directory that the server chose, unless it was found
// usable before, so that the settings can refuse it.
func (a *Agent) lookAt(ctx context.Context, dir string) {
	s := a.settings
	if !s.needsLook(dir) {
		return
	}
	if !a.looking.CompareAndSwap(false, true) {
		s.lookedAt(look{dir, errNoLook}) // one that hangs is not joined by others
		return
	}
	looked := make(chan error, 1)
	go func() { // not waited for where a disk hangs
		defer a.looking.Store(false)
		looked <- a.cfg.Policy.CheckStorageDir(dir)
	}()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := errNoLook
	select {
	case err = <-looked:
	case <-ctx.Done():
	}
	s.lookedAt(look{dir, err})
}

// modelDir returns the setting of the storage directory.
func (s *settings) modelDir() *setting {
	for _, each := range s.all {
		if each.name == settingModelDir {
			return each
		}
	}
	return nil
}

// needsLook reports whether a directory has to be looked at before it is used.
func (s *settings) needsLook(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	each := s.modelDir()
	if dir == "" || dir == each.own || each.looked.value == dir && each.looked.err == nil {
		return false
	}
	each.looked = look{}
	return each.check(dir) == nil
}

// lookedAt keeps the outcome of a look. A directory that was in force and can't be
// used makes way for the machine's own.
func (s *settings) lookedAt(l look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	each := s.modelDir()
	each.looked = l
	if l.err != nil && each.value == l.value {
		each.useOwn()
	}
}
