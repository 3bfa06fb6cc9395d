// Package modelset knows which files make up a model: what is next to its files and
// not part of it, which files belong together, and whether any of them is missing.
//
// It knows names and formats only. Its caller lists the files and opens them.
package modelset
