package logstream

import (
	"context"
	"fmt"
	"log/slog"
)

// Text returns text without secrets.
func (r Redactor) Text(text string) string {
	if len(r.needles) == 0 {
		return text
	}
	return string(r.replace([]byte(text)))
}

// Value returns a decoded JSON value without secrets in its strings and names. It
// changes maps and slices in place. Where two names become one, one value is kept.
func (r Redactor) Value(v any) any {
	if len(r.needles) == 0 {
		return v
	}
	switch v := v.(type) {
	case string:
		return r.Text(v)
	case []any:
		for i := range v {
			v[i] = r.Value(v[i])
		}
	case map[string]any:
		for name, value := range v {
			if clean := r.Text(name); clean != name {
				delete(v, name)
				name = clean
			}
			v[name] = r.Value(value)
		}
	}
	return v
}

// Handler returns a handler that passes records on to h without secrets in their
// messages and attributes.
func (r Redactor) Handler(h slog.Handler) slog.Handler {
	if len(r.needles) == 0 {
		return h
	}
	return redactHandler{h, r}
}

type redactHandler struct {
	slog.Handler
	secrets Redactor
}

func (h redactHandler) Handle(ctx context.Context, record slog.Record) error {
	clean := slog.NewRecord(record.Time, record.Level, h.secrets.Text(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h redactHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return redactHandler{h.Handler.WithAttrs(h.attrs(attrs)), h.secrets}
}

func (h redactHandler) WithGroup(name string) slog.Handler {
	return redactHandler{h.Handler.WithGroup(name), h.secrets}
}

func (h redactHandler) attrs(attrs []slog.Attr) []slog.Attr {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return clean
}

// attr returns an attribute without secrets. A value of another type than slog's own
// becomes its text if that has a secret.
func (h redactHandler) attr(a slog.Attr) slog.Attr {
	switch a.Value = a.Value.Resolve(); a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(h.secrets.Text(a.Value.String()))
	case slog.KindGroup:
		a.Value = slog.GroupValue(h.attrs(a.Value.Group())...)
	case slog.KindAny:
		text := fmt.Sprint(a.Value.Any())
		if clean := h.secrets.Text(text); clean != text {
			a.Value = slog.StringValue(clean)
		}
	}
	return a
}
