package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"
)

// Journal reports whether what is written to w goes to systemd's journal:
// whether w is the stream that JOURNAL_STREAM names, as device and inode
// (systemd.exec(5)). The variable alone says little, since children inherit it.
func Journal(w any, getenv func(string) string) bool {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	var stat unix.Stat_t
	return unix.Fstat(int(f.Fd()), &stat) == nil && getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// journalHandler writes records as the journal wants them: the level is a
// prefix that the journal takes off and keeps as the entry's priority
// (sd-daemon(3)), and text has neither time nor level, which journalctl shows
// itself.
type journalHandler struct {
	slog.Handler               // writes to text
	text         *bytes.Buffer // one record, guarded by mu
	mu           *sync.Mutex
	out          io.Writer
}

func newJournalHandler(out io.Writer, level slog.Leveler, format string) slog.Handler {
	h := &journalHandler{text: &bytes.Buffer{}, mu: &sync.Mutex{}, out: out}
	if format == FormatJSON {
		h.Handler = newJSONHandler(h.text, level)
		return h
	}
	h.Handler = tint.NewTextHandler(h.text, &tint.Options{Level: level, NoColor: true, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}})
	return h
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Time{}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	// A line is an entry of its own, and each needs its priority.
	prefix := fmt.Appendf(nil, "<%d>", priority(r.Level))
	var entry []byte
	for line := range bytes.Lines(h.text.Bytes()) {
		entry = append(append(entry, prefix...), line...)
	}
	_, err := h.out.Write(entry)
	return err
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithAttrs(attrs)
	return &with
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithGroup(name)
	return &with
}

// priority returns syslog's number for a level (syslog(3)).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	}
	return 7
}
