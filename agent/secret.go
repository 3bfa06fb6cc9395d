package agent

import (
	"fmt"
	"log/slog"
)

// A Secret is a token, a password or another text that nobody may see. Printing,
// logging or encoding one shows nothing of it; Reveal returns it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", and an empty text for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// Format writes what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue returns what String returns.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String returns. The encoders of JSON and YAML call it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
