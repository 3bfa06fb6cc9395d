// Package base holds the few helpers that several packages of this module would
// otherwise each write: JSON files that survive a crash, the machine's boot id,
// the machine's listening sockets, text that is safe to print, and waiting with a
// context. Every package may import it; it imports the standard library and renameio
// alone.
package base
