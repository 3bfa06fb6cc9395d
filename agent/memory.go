package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/kirizan/kitt-agent/internal/base"
)

// memoryFile is the file in Config.Dir that holds what the agent remembers of its
// server.
const memoryFile = "server.json"

// maxMemory is the most that the file has, in bytes.
const maxMemory = 1 << 20

// remembered is the content of the file. Keys are only added.
type remembered struct {
	Version  int                     `json:"version"`
	Policy   int                     `json:"policy,omitempty"`   // the policyVersion that jobs were reviewed by
	Settings map[string]savedSetting `json:"settings,omitempty"` // by the server's names
}

// A savedSetting is what the server sent last for a setting.
type savedSetting struct {
	Sent   string `json:"sent"`
	Chosen bool   `json:"chosen,omitempty"` // whether it was seen to change, so that it is no default
	Own    string `json:"own"`              // the machine's own value at that time
}

// A memory keeps what the agent remembers of its server from one start to the next. It
// is written in the background: a disk that hangs holds up no heartbeat.
type memory struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	now     remembered // guarded by mu; maps in it are never changed in place
	changed base.Broadcast
}

// openMemory reads the file in dir. Without one, or with one that cannot be read,
// nothing is remembered.
func openMemory(dir string, log *slog.Logger) *memory {
	m := &memory{path: filepath.Join(dir, memoryFile), log: log}
	err := base.ReadJSON(m.path, &m.now, maxMemory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what is remembered of the server could not be read; starting without it", "err", err)
		m.now = remembered{}
	}
	m.now.Version = 1
	return m
}

// get returns what is remembered.
func (m *memory) get() remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// set changes what is remembered. It waits for no disk.
func (m *memory) set(change func(*remembered)) {
	m.mu.Lock()
	change(&m.now)
	m.mu.Unlock()
	m.changed.Send()
}

// run writes changes to the file until ctx is done, and the last ones after that.
func (m *memory) run(ctx context.Context) {
	var written []byte
	for {
		changed, last := m.changed.Wait(), ctx.Err() != nil
		text, err := base.EncodeJSON(m.get())
		if err == nil && string(text) != string(written) && len(text) <= maxMemory {
			if err = base.WriteFile(m.path, text); err == nil {
				written = text
			}
		}
		if err != nil {
			m.log.Warn("what is remembered of the server could not be written", "err", err)
		}
		if last {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
