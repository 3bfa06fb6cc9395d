package selfupdate_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate/selfupdatetest"
)

var (
	amd64 = selfupdate.Platform{OS: "linux", Arch: "amd64"}
	arm64 = selfupdate.Platform{OS: "linux", Arch: "arm64"}
)

// sample returns a package for two platforms.
func sample() selfupdatetest.Package {
	return selfupdatetest.Package{Version: "v1.2.0", Programs: map[string][]byte{
		"linux_amd64": []byte("for amd64"), "linux_arm64": []byte("for arm64"),
	}}
}

// keys returns a pair of keys that is always the same.
func keys(seed byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private.Public().(ed25519.PublicKey), private
}

func unpack(data []byte, want selfupdate.Wanted) (selfupdate.Contents, string, error) {
	var out bytes.Buffer
	c, err := selfupdate.Unpack(context.Background(), bytes.NewReader(data), want, &out)
	return c, out.String(), err
}

func TestUnpackPicksThePlatform(t *testing.T) {
	t.Parallel()
	for want, text := range map[selfupdate.Platform]string{amd64: "for amd64", arm64: "for arm64"} {
		c, program, err := unpack(sample().Bytes(), selfupdate.Wanted{Platform: want})
		require.NoError(t, err)
		require.Equal(t, text, program)
		require.Equal(t, "v1.2.0", c.Version)
		require.ElementsMatch(t, []string{"linux_amd64", "linux_arm64"}, c.Platforms)
		require.False(t, c.Signed)
	}
	_, _, err := unpack(sample().Bytes(), selfupdate.Wanted{Platform: selfupdate.Platform{OS: "linux", Arch: "riscv64"}})
	require.ErrorContains(t, err, "no program for linux/riscv64")
}

func TestUnpackChecksTheSignature(t *testing.T) {
	t.Parallel()
	public, private := keys(1)
	_, stranger := keys(2)
	signed := sample()
	signed.Key = private
	c, _, err := unpack(signed.Bytes(), selfupdate.Wanted{Platform: amd64, Key: public})
	require.NoError(t, err)
	require.True(t, c.Signed)

	_, program, err := unpack(sample().Bytes(), selfupdate.Wanted{Platform: amd64, Key: public})
	require.ErrorIs(t, err, selfupdate.ErrSignature, "none")
	require.Empty(t, program, "nothing is unpacked of what is not trusted")
	signed.Key = stranger
	_, _, err = unpack(signed.Bytes(), selfupdate.Wanted{Platform: amd64, Key: public})
	require.ErrorIs(t, err, selfupdate.ErrSignature, "a stranger's")

	// A signature of other sums.
	signed.Key = private
	signed.Version = "v9.0.0"
	files, other := signed.Files(), sample()
	other.Key = private
	files[2] = other.Files()[2]
	_, _, err = unpack(selfupdatetest.Archive(files...), selfupdate.Wanted{Platform: amd64, Key: public})
	require.ErrorIs(t, err, selfupdate.ErrSignature)

	// Without a key in agent.yaml any signature will do.
	signed.Key = stranger
	_, _, err = unpack(signed.Bytes(), selfupdate.Wanted{Platform: amd64})
	require.NoError(t, err)
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	with := func(change func(files []selfupdatetest.File) []selfupdatetest.File) []byte {
		return selfupdatetest.Archive(change(sample().Files())...)
	}
	replace := func(i int, f selfupdatetest.File) []byte {
		return with(func(files []selfupdatetest.File) []selfupdatetest.File {
			files[i] = f
			return files
		})
	}
	whole := sample().Bytes()
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"no gzip", []byte("hello"), "no gzip"},
		{"nothing", selfupdatetest.Archive(), "ends too early"},
		{"cut", whole[:len(whole)-60], "unexpected EOF"},
		{"another archive", selfupdatetest.Archive(selfupdatetest.File{Name: "README.md"}), `where VERSION should be, it has "README.md"`},
		{"an sdist", selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/PKG-INFO", Data: []byte("Name: kitt-agent")}), "package of the Python agent"},
		{"an sdist with directories", selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/", Header: &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}), "package of the Python agent"},
		{"a changed program", replace(2, selfupdatetest.File{Name: "linux_amd64/kitt-agent", Data: []byte("forged")}), "not the one of its SHA256SUMS"},
		{"a changed version", replace(0, selfupdatetest.File{Name: "VERSION", Data: []byte("v9.0.0\n")}), "not the one of its SHA256SUMS"},
		{"a link", replace(2, selfupdatetest.File{Name: "linux_amd64/kitt-agent", Header: &tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/bin/sh"}}), "no plain file"},
		{"a hard link", replace(2, selfupdatetest.File{Name: "linux_amd64/kitt-agent", Header: &tar.Header{Typeflag: tar.TypeLink, Linkname: "/bin/sh"}}), "no plain file"},
		{"a device", replace(2, selfupdatetest.File{Name: "linux_amd64/kitt-agent", Header: &tar.Header{Typeflag: tar.TypeBlock}}), "no plain file"},
		{"dots", replace(2, selfupdatetest.File{Name: "../kitt-agent", Data: []byte("x")}), "no name of a package's"},
		{"dots inside", replace(2, selfupdatetest.File{Name: "linux_amd64/../../kitt-agent", Data: []byte("x")}), "no name of a package's"},
		{"an absolute name", replace(2, selfupdatetest.File{Name: "/usr/bin/kitt-agent", Data: []byte("x")}), "no name of a package's"},
		{"a stowaway", replace(2, selfupdatetest.File{Name: "extra", Data: []byte("x")}), "does not belong"},
		{"a long VERSION", replace(0, selfupdatetest.File{Name: "VERSION", Data: bytes.Repeat([]byte("1"), 1<<20)}), "longer than"},
		{"strange sums", replace(1, selfupdatetest.File{Name: "SHA256SUMS", Data: []byte("hello\n")}), "cannot be read"},
		{"many files", with(func(files []selfupdatetest.File) []selfupdatetest.File {
			for range 40 {
				files = append(files[:3:3], files[2:]...)
			}
			return append(files[:2], files[3:]...)
		}), "more than 16 files"},
		{"a bomb", replace(2, selfupdatetest.File{Name: "linux_amd64/kitt-agent", Header: &tar.Header{Size: 300 << 20}}), "larger than 256 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			platform := amd64
			if tt.name == "many files" {
				platform = arm64
			}
			_, err := selfupdate.Unpack(t.Context(), bytes.NewReader(tt.data), selfupdate.Wanted{Platform: platform}, io.Discard)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestUnpackStopsWhenToldTo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := selfupdate.Unpack(ctx, bytes.NewReader(sample().Bytes()), selfupdate.Wanted{Platform: amd64}, io.Discard)
	require.ErrorIs(t, err, context.Canceled)
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	public, _ := keys(1)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(public),
		base64.StdEncoding.EncodeToString(der) + "\n",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	} {
		got, err := selfupdate.ParsePublicKey(text)
		require.NoError(t, err)
		require.Equal(t, public, got)
	}
	for _, text := range []string{"", "hello!", "aGVsbG8="} {
		_, err := selfupdate.ParsePublicKey(text)
		require.Error(t, err, text)
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ installed, offered, want string }{
		{"v1.2.0", "v1.2.1", ""},
		{"1.2.0", "v1.10.0", ""},
		{"v0.0.0-20260101000000-aaaaaaaaaaaa", "v0.0.0-20260102000000-000000000000", ""},
		{"devel", "v1.0.0", ""},
		{"v1.2.0", "v1.2.0", "installed already"},
		{"1.2.0", "v1.2.0", "installed already"},
		{"v1.2.0", "v1.2.0-rc.1", "older"},
		{"v1.10.0", "v1.9.0", "older"},
	} {
		err := selfupdate.Newer(tt.installed, tt.offered)
		if tt.want == "" {
			require.NoError(t, err, "%+v", tt)
		} else {
			require.ErrorContains(t, err, tt.want, "%+v", tt)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(sample().Bytes())
	_, private := keys(1)
	signed := sample()
	signed.Key = private
	f.Add(signed.Bytes())
	f.Add(selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/PKG-INFO"}))
	good := map[string]bool{"for amd64": true}
	f.Fuzz(func(t *testing.T, data []byte) {
		public, _ := keys(1)
		// With a key nothing comes out but what its owner has signed.
		if _, program, err := unpack(data, selfupdate.Wanted{Platform: amd64, Key: public}); err == nil {
			require.True(t, good[program], "%q", strings.ToValidUTF8(program, "?"))
		}
	})
}
