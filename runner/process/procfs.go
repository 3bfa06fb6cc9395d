package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"golang.org/x/sys/unix"
)

// An identity names a process for good: a PID is given out again, a PID and
// the time it was started at are not, until the next boot.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// A proc is one line of /proc/PID/stat, see proc(5).
type proc struct {
	identity
	zombie                 bool
	parent, group, session int
}

// parseStat reads the text of /proc/PID/stat. The second field is the
// program's name in parentheses and may itself hold blanks and parentheses.
func parseStat(text []byte) (proc, bool) {
	open, shut := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || shut < open {
		return proc{}, false
	}
	fields := strings.Fields(string(text[shut+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return proc{}, false
	}
	var p proc
	var errs [5]error
	p.PID, errs[0] = strconv.Atoi(strings.TrimSpace(string(text[:open])))
	p.parent, errs[1] = strconv.Atoi(fields[1])
	p.group, errs[2] = strconv.Atoi(fields[2])
	p.session, errs[3] = strconv.Atoi(fields[3])
	p.Start, errs[4] = strconv.ParseUint(fields[19], 10, 64)
	p.zombie = fields[0] == "Z" || fields[0] == "X"
	return p, errors.Join(errs[:]...) == nil && p.PID > 0
}

// lookup returns the process with a PID.
func lookup(pid int) (proc, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	return parseStat(text)
}

// alive says whether the process itself, and not a later one by its PID, runs.
func (id identity) alive() bool {
	if id.PID <= 0 {
		return false
	}
	p, ok := lookup(id.PID)
	return ok && !p.zombie && p.Start == id.Start
}

// processes returns all processes that run.
func processes() []proc {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var all []proc
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// A process that ended meanwhile has no such file any more.
		if p, ok := lookup(pid); ok && !p.zombie {
			all = append(all, p)
		}
	}
	return all
}

// descendants returns those of all that come from root, however many
// generations down, without root itself.
func descendants(all []proc, root int) []proc {
	children := make(map[int][]proc)
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []proc
	seen := map[int]bool{root: true}
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			// The table isn't read at one instant, so it may hold a circle.
			if !seen[p.PID] {
				seen[p.PID] = true
				found = append(found, p)
				next = append(next, p.PID)
			}
		}
	}
	return found
}

// signalAll sends sig to each of ps.
func signalAll(ps []proc, sig unix.Signal) {
	for _, p := range ps {
		if p.alive() {
			// It may have ended just now, which is all that is wanted.
			_ = unix.Kill(p.PID, sig)
		}
	}
}

// killAll sends SIGKILL to what list returns until it returns nothing, and says
// whether that came to be before the limit. A process in an uninterruptible
// call to a driver can't be killed.
func killAll(list func() []proc, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		ps := list()
		if len(ps) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		signalAll(ps, unix.SIGKILL)
		time.Sleep(pollMin)
	}
}

// left returns what still runs of a run whose supervisor, or whose agent, is
// gone: the child, what comes from it, its group, and the supervisor's session.
func (s started) left() []proc {
	if s.Boot != base.BootID() {
		return nil
	}
	all := processes()
	var found []proc
	childLives := s.Child.alive()
	if childLives {
		found = descendants(all, s.Child.PID)
	}
	// The PID of a dead leader isn't given out again while its group or session
	// has members. If it was given out, theirs is another group or session.
	ours := func(id identity) bool {
		if id.PID == 0 {
			return false
		}
		p, ok := lookup(id.PID)
		return !ok || p.Start == id.Start
	}
	group, session := ours(s.Child), ours(s.Super)
	for _, p := range all {
		if p.identity == s.Child || group && p.group == s.Child.PID || session && p.session == s.Super.PID {
			found = append(found, p)
		}
	}
	return found
}
