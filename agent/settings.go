package agent

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/storage"
)

// Settings are what the server can change while the agent runs. In Config they
// are the machine's own: a zero value means that its configuration doesn't name
// the setting. Of those that concern the storage, a [storage.Configurer] names
// the rest with what it was made with.
//
// The server sends its settings with every heartbeat, its defaults among them,
// and a default cannot be told from a choice. So a value of the server's that
// makes sense counts if the machine names none; if it does, the server's counts
// only if it differs from the server's default or has changed while the agent
// was looking; the agent remembers that, and what the server sent last, from one start
// to the next. An empty text means that the server doesn't set it, and one that
// makes no sense, or that Config.Policy refuses, is said once and otherwise ignored.
type Settings struct {
	ModelDir    string        // where models are kept; may begin with ~
	ShareSource string        // such as nas:/volume1/models
	ShareMount  string        // where the share is mounted
	AutoCleanup *bool         // whether a copy is removed when no job needs it
	Image       string        // the container image to run benchmarks in
	Interval    time.Duration // between heartbeats, 10 s to 300 s in whole seconds
}

// Where the value of a setting in force comes from, as Status.SettingSources says.
const (
	SourceServer     = "server"     // the server's latest heartbeat
	SourceRemembered = "remembered" // the server, before the agent was started
	SourceMachine    = "machine"    // Config.Settings: the machine's own configuration
	SourceDefault    = "default"    // nobody set it
)

// The server's names for the settings, and the values that it sends for those that
// were never changed (KITT 1.7.0).
const (
	settingModelDir    = policy.ModelStorageDir
	settingShareSource = policy.ModelShareSource
	settingShareMount  = policy.ModelShareMount
	settingAutoCleanup = policy.AutoCleanup
	settingImage       = policy.KITTImage
	settingInterval    = policy.HeartbeatInterval

	defaultModelDir    = "~/.kitt/models"
	defaultAutoCleanup = "true"
	defaultInterval    = "30"
)

// A setting is one of them: what the server may send for it, and what of it is
// in force.
type setting struct {
	name     string
	field    string             // of Settings
	fallback string             // the server's default
	own      string             // the machine's own value; empty if it names none
	adopted  bool               // whether own is only what the storage was made with
	check    func(string) error // refuses what makes no sense
	seen     *string            // what the server sent last; nil before the first time
	forced   bool               // whether the server's value was seen to change
	value    string             // in force
	source   string             // of value
	looked   look               // at the directory that the server chose
	said     string             // the last error of offer; empty if there was none since then
}

// refusal returns the error for a value of the server's that is not used because of
// err.
func (s *setting) refusal(sent string, err error) error {
	return fmt.Errorf("%s %q from the server is ignored: %w", s.name, printable(sent), err)
}

// offer applies what the server sent. The first time that it sends a value that makes
// no sense, offer returns why.
func (s *setting) offer(sent string) error {
	sent = strings.TrimSpace(sent)
	changed := s.seen != nil && *s.seen != sent
	s.seen = &sent
	err := s.check(sent)
	if sent == "" {
		s.forced = false
	} else if err == nil {
		s.forced = s.forced || changed
	}
	s.decide(SourceServer)
	if err == nil || sent == "" {
		s.said = ""
		return nil
	}
	refusal := s.refusal(sent, err)
	if refusal.Error() == s.said {
		return nil
	}
	s.said = refusal.Error()
	return refusal
}

// decide sets the value in force. One of the server's has the given source. A value
// that makes no sense leaves the one before it in force.
func (s *setting) decide(source string) {
	switch sent := s.seen; {
	case sent == nil, *sent == "":
		s.useOwn()
	case s.check(*sent) != nil:
	case s.own == "" || s.forced || *sent != s.fallback:
		s.value, s.source = *sent, source
	default:
		s.useOwn()
	}
}

// useOwn makes the machine's own value the one in force.
func (s *setting) useOwn() {
	s.value, s.source = s.own, SourceMachine
	if s.own == "" || s.adopted {
		s.source = SourceDefault
	}
}

// restore continues from what an agent before this one saved. A value of the machine's
// own that has changed since then counts again over the server's default.
func (s *setting) restore(saved savedSetting) {
	s.seen = &saved.Sent
	s.forced = saved.Chosen && saved.Own == s.own
	s.decide(SourceRemembered)
}

// settings holds all of them. Its methods are safe for concurrent use.
type settings struct {
	mu  sync.Mutex
	all []*setting
}

func newSettings(own Settings, allowedImages []string) (*settings, error) {
	cleanup := ""
	if own.AutoCleanup != nil {
		cleanup = strconv.FormatBool(*own.AutoCleanup)
	}
	var faults []error
	interval := ""
	switch {
	case own.Interval%time.Second != 0:
		faults = append(faults, fmt.Errorf("Settings.Interval %s: it is no whole number of seconds", own.Interval))
	case own.Interval != 0:
		interval = strconv.Itoa(int(own.Interval / time.Second))
	}
	s := &settings{all: []*setting{
		{name: settingModelDir, field: "ModelDir", fallback: defaultModelDir, own: own.ModelDir, check: rules.Path},
		{name: settingShareSource, field: "ShareSource", own: own.ShareSource, check: rules.Share},
		{name: settingShareMount, field: "ShareMount", own: own.ShareMount, check: rules.Path},
		{name: settingAutoCleanup, field: "AutoCleanup", fallback: defaultAutoCleanup, own: cleanup, check: checkBool},
		{name: settingImage, field: "Image", own: own.Image, check: checkImage(allowedImages)},
		{name: settingInterval, field: "Interval", fallback: defaultInterval, own: interval, check: checkSeconds},
	}}
	for _, each := range s.all {
		each.useOwn()
		if each.own == "" {
			continue
		}
		check := each.check
		if each.name == settingImage {
			check = rules.Image // the machine's own choice is always allowed
		}
		if err := check(each.own); err != nil {
			faults = append(faults, fmt.Errorf("Settings.%s %q: %w", each.field, each.own, err))
		}
	}
	return s, errors.Join(faults...)
}

// adopt uses what the storage was made with for settings that the machine's own
// configuration doesn't name.
func (s *settings) adopt(kept storage.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := map[string]string{
		settingModelDir:    kept.Dir,
		settingShareSource: kept.ShareSource,
		settingShareMount:  kept.ShareMount,
		settingAutoCleanup: strconv.FormatBool(kept.AutoCleanup),
	}
	for _, each := range s.all {
		if text := texts[each.name]; each.own == "" && text != "" {
			each.own, each.adopted = text, true
			each.useOwn()
		}
	}
}

// restore continues from what an agent before this one saved.
func (s *settings) restore(saved map[string]savedSetting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, each := range s.all {
		if one, ok := saved[each.name]; ok {
			each.restore(one)
		}
	}
}

// saved returns what the server sent last, for restore.
func (s *settings) saved() map[string]savedSetting {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := map[string]savedSetting{}
	for _, each := range s.all {
		if each.seen != nil {
			saved[each.name] = savedSetting{Sent: jobs.Cut(*each.seen, maxSavedText), Chosen: each.forced, Own: each.own}
		}
	}
	return saved
}

// maxSavedText bounds a setting in the file, in bytes.
const maxSavedText = 16 << 10

// sources returns where each value in force comes from, by the server's names.
func (s *settings) sources() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources := make(map[string]string, len(s.all))
	for _, each := range s.all {
		sources[each.name] = each.source
	}
	return sources
}

// offer applies the settings of a heartbeat's answer, and returns an error for each
// that makes no sense or is refused, by the server's names, the first time.
func (s *settings) offer(sent map[string]string) map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := map[string]error{}
	for _, each := range s.all {
		text, ok := sent[each.name]
		if !ok {
			continue
		}
		if err := each.offer(text); err != nil {
			faults[each.name] = err
		}
	}
	return faults
}

// texts returns all settings in force, by the server's names.
func (s *settings) texts() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := make(map[string]string, len(s.all))
	for _, each := range s.all {
		texts[each.name] = each.value
	}
	return texts
}

// storage returns those that are the storage's business.
func (s *settings) storage() storage.Settings {
	texts := s.texts()
	return storage.Settings{
		Dir:         cmp.Or(texts[settingModelDir], defaultModelDir),
		ShareSource: texts[settingShareSource],
		ShareMount:  texts[settingShareMount],
		AutoCleanup: cmp.Or(strings.ToLower(texts[settingAutoCleanup]), defaultAutoCleanup) == "true",
	}
}

// image returns the container image in force; empty leaves it to the runner.
func (s *settings) image() string { return s.texts()[settingImage] }

// interval returns the time between heartbeats in force.
func (s *settings) interval() time.Duration {
	seconds, err := strconv.Atoi(s.texts()[settingInterval])
	if err != nil {
		return heartbeat.DefaultInterval
	}
	return time.Duration(seconds) * time.Second
}

func checkBool(text string) error {
	switch strings.ToLower(text) {
	case "true", "false":
		return nil
	}
	return errors.New("it is neither true nor false")
}

func checkSeconds(text string) error {
	seconds, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("it is no whole number of seconds")
	}
	d := time.Duration(seconds) * time.Second
	if d < heartbeat.MinInterval || d > heartbeat.MaxInterval {
		return fmt.Errorf("it is not from %d to %d", int(heartbeat.MinInterval.Seconds()), int(heartbeat.MaxInterval.Seconds()))
	}
	return nil
}

// checkImage returns a check of an image that the server chose. Without patterns any
// image is allowed.
func checkImage(allowed []string) func(string) error {
	return func(image string) error {
		if err := rules.Image(image); err != nil || len(allowed) == 0 {
			return err
		}
		for _, pattern := range allowed {
			if ok, _ := path.Match(pattern, image); ok {
				return nil
			}
		}
		return errors.New("this machine's configuration does not allow it")
	}
}
