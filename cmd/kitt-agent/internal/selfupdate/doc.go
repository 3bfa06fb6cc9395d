// Package selfupdate replaces the program that it runs in by another version.
//
// # The package
//
// An update comes as a tar.gz with these files, in this order and no others:
//
//	VERSION              the version, such as v1.4.0, and a line feed
//	SHA256SUMS           as sha256sum(1) writes it, of VERSION and each program
//	SHA256SUMS.sig       optional: Ed25519 over SHA256SUMS, in base64
//	linux_amd64/kitt-agent
//	linux_amd64_nvml/kitt-agent
//	linux_arm64/kitt-agent
//	linux_arm64_nvml/kitt-agent
//
// A program is named for its platform in Go's words, GOOS_GOARCH, with _nvml
// behind it if it reads GPUs through NVIDIA's library, which takes glibc; the
// others are static. A package has one or more of them, and a program is updated
// to one of its own kind where there is one. What describes the programs comes first, so that a
// program is checked while it is unpacked and no more of a package is read than
// is needed. [Unpack] reads one; nothing else in a package ever gets a name on
// disk.
//
// The digests guard against damage. Against a forger there is the signature: an
// operator who names a public key gets packages that were signed with its
// private key and no others. OpenSSL makes both:
//
//	openssl genpkey -algorithm ed25519 -out update.key
//	openssl pkey -in update.key -pubout
//
// # The replacement
//
// [Install.Stage] writes the new program next to the old one, under a name of its
// own, and [Probe] runs it once. [Install.Swap] then puts it in place with one
// rename, and keeps the old one as kitt-agent.previous. At each moment there is
// a whole program under the old name, whatever dies; what an update that died
// has left is removed by the next. [Install.Rollback] exchanges the two.
//
// One update happens at a time, held by a lock on the program's directory that
// leaves no file behind.
package selfupdate
