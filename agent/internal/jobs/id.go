package jobs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidID reports whether id can name a job's directory: letters, digits, dots,
// underscores and hyphens, at most 64, the first of them a letter or digit.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// NewID returns a random id in the server's form: 16 hexadecimal digits.
func NewID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// SafeID returns the id under which the command with this id is kept: its own, or
// one derived from it if its own cannot name a directory. The same command always
// gets the same id, so that it runs at most once.
func SafeID(id string) (safe string, own bool) {
	if ValidID(id) {
		return id, true
	}
	sum := sha256.Sum256([]byte(id))
	return "invalid-" + hex.EncodeToString(sum[:8]), false
}
