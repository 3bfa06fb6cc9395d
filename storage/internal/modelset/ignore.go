package modelset

import (
	"path"
	"slices"
	"strings"
)

// foreignNames are the directories, in lower case, that file servers and file
// systems keep among the user's files: deleted files, snapshots and thumbnails.
var foreignNames = []string{
	"#recycle", "#snapshot", "@eadir", "@tmp", // Synology
	"@recycle", "@recently-snapshot", ".@__thumb", // QNAP
	".snapshot", "~snapshot", // NetApp
	".snapshots",                                // GPFS, snapper
	".zfs",                                      // ZFS
	"$recycle.bin", "system volume information", // Windows
	".trashes", ".fseventsd", ".spotlight-v100", // macOS
	"lost+found", // ext4, xfs
}

// Foreign reports whether a directory of that name belongs to a file server or a
// file system, so that nothing in it is a user's model.
func Foreign(name string) bool {
	lower := strings.ToLower(name)
	return slices.Contains(foreignNames, lower) ||
		lower == ".trash" || strings.HasPrefix(lower, ".trash-") // freedesktop.org
}

// Leftover reports whether a file of that name is left from a download or a
// deletion, or locks something.
func Leftover(name string) bool {
	return strings.HasSuffix(name, ".incomplete") || // Hugging Face's downloads
		strings.HasSuffix(name, ".lock") ||
		strings.HasPrefix(name, ".nfs") // deleted, but open on another machine (NFS)
}

// Ignored reports whether what is at rel in a model is not part of it.
func Ignored(rel string) bool {
	name := path.Base(rel)
	return Foreign(name) || Leftover(name) ||
		name == "huggingface" && path.Base(path.Dir(rel)) == ".cache" // state of Hugging Face's downloads
}
