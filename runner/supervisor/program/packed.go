//go:build kitt_supervise

package program

import _ "embed"

// packed is the program for this architecture, compressed by gzip. scripts/dist
// makes it before it builds with the tag.
//
//go:embed packed.gz
var packed []byte
