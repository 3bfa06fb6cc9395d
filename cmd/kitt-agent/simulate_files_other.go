//go:build !unix

package main

// enoughFiles knows no limit on this system.
func enoughFiles(int) error { return nil }
