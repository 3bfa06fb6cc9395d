package policy

import (
	"errors"
	"regexp"
	"slices"
)

var profileKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// ProfileKeyRule is the rule for an entry of Policy.ProfileKeys.
func ProfileKeyRule(key string) error {
	if !profileKey.MatchString(key) {
		return errors.New("it is not a key such as image or extra_args")
	}
	return nil
}

// CheckProfileKey returns why an engine profile may not have a key that is not one of
// the engine's plain settings.
func (p Policy) CheckProfileKey(key string) error {
	if p.ProfileKeys == nil || slices.Contains(p.ProfileKeys, key) {
		return nil
	}
	return refuse("profile_keys", append(slices.Clone(p.ProfileKeys), key), "the server may not set %.64s in an engine profile", key)
}
