// Package logstream keeps the log of one job: an append-only file that many
// readers follow live.
package logstream
