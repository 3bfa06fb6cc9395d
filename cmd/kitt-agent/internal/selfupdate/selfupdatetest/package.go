// Package selfupdatetest makes update packages for tests.
package selfupdatetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
)

// A File is one file of an archive. Its header is that of a plain file with the
// data's length where it doesn't say otherwise.
type File struct {
	Name   string
	Data   []byte
	Header *tar.Header
}

// A Package is an update of kitt-agent.
type Package struct {
	Version  string
	Programs map[string][]byte  // by platform, such as linux_amd64
	Key      ed25519.PrivateKey // nil for no signature
}

// Files returns the package's files in their order.
func (p Package) Files() []File {
	files := []File{{Name: "VERSION", Data: []byte(p.Version + "\n")}}
	var programs []File
	for _, platform := range slices.Sorted(maps.Keys(p.Programs)) {
		programs = append(programs, File{Name: platform + "/kitt-agent", Data: p.Programs[platform]})
	}
	var sums []byte
	for _, f := range append(slices.Clone(files), programs...) {
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(f.Data), f.Name)
	}
	files = append(files, File{Name: "SHA256SUMS", Data: sums})
	if p.Key != nil {
		text := base64.StdEncoding.EncodeToString(ed25519.Sign(p.Key, sums)) + "\n"
		files = append(files, File{Name: "SHA256SUMS.sig", Data: []byte(text)})
	}
	return append(files, programs...)
}

// Bytes returns the package.
func (p Package) Bytes() []byte { return Archive(p.Files()...) }

// Archive returns a tar.gz of files, however odd they are.
func Archive(files ...File) []byte {
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, f := range files {
		head := f.Header
		if head == nil {
			head = &tar.Header{Mode: 0o755, Size: int64(len(f.Data))}
		}
		head.Name = f.Name
		// Nothing fails that is written to memory, and a wrong header is for the
		// reader to find.
		_ = archive.WriteHeader(head)
		_, _ = archive.Write(f.Data)
	}
	_ = archive.Close()
	_ = zipped.Close()
	return b.Bytes()
}
