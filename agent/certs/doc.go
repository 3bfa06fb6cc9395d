// Package certs makes, checks and replaces an agent's certificate.
//
// A program that embeds the agent serves its API with [Loader.ServerConfig] as
// agent.Config.TLS, and has agent.Config.Warnings return what [Expiry] says.
//
// An agent has three [Files]: its certificate, the certificate's key, and the
// authority that signed the server's certificate and, as a rule, its own. An
// [Authority] at hand issues a certificate; without one a [Request] waits for
// somebody who has it. [Load] and [Pair.Check] say whether what is on disk can be
// used, and what to do where it can't.
//
// # A pair is replaced as one
//
// Two files can't be renamed in one step. [Replace] therefore writes both new
// ones under other names first, then renames the key, then the certificate. A
// reader between the two finds a pair that doesn't match: [Loader], and the client
// of the server, keep the one in memory and read again at the next connection. If
// the machine dies between the two, the certificate that belongs to the key is
// still there under its other name. [Recover], which is called before anything is
// read, renames it. Replace and Recover exclude each other through a lock.
package certs

import "time"

const (
	// WarnBefore is how long before a certificate ends people are told.
	WarnBefore = 30 * 24 * time.Hour

	validity  = 365 * 24 * time.Hour
	clockSkew = time.Hour // that clocks may differ by
	maxFile   = 1 << 20   // bytes of a file that are read
	maxCerts  = 64        // certificates in one file
)

// Files names the files of an agent's identity, all in PEM form. The CA may be
// empty, which means the system's authorities; the other two come together, and
// may be one and the same file.
type Files struct {
	Cert, Key, CA string
}

// An Error says what is wrong with a file and what to do about it.
type Error struct {
	File    string
	Problem string
	Fix     string // may be empty
	Err     error  // what is behind it; may be nil
}

// Error returns one sentence.
func (e *Error) Error() string {
	text := e.File + ": " + e.Problem
	if e.Fix != "" {
		text += "; " + e.Fix
	}
	return text
}

// Unwrap returns what is behind the error.
func (e *Error) Unwrap() error { return e.Err }
