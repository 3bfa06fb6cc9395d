package imagebuild_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker/imagebuild"
)

// entry is one of a tar's.
type entry struct {
	name, text, link string
	kind             byte // a file by default
}

var dockerfile = entry{name: "kitt-build-context/docker/web/Dockerfile", text: "FROM scratch\n"}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		kind := e.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		require.NoError(t, w.WriteHeader(&tar.Header{
			Name: e.name, Typeflag: kind, Linkname: e.link, Mode: 0o4755, Size: int64(len(e.text)), Uid: 1000, Uname: "me",
		}))
		_, err := io.WriteString(w, e.text)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func repack(data []byte, limits imagebuild.Limits) ([]byte, error) {
	var b bytes.Buffer
	err := imagebuild.Repack(context.Background(), &b, bytes.NewReader(data), imagebuild.ServerDockerfile, limits)
	return b.Bytes(), err
}

// listing returns the entries of a tar, a line each.
func listing(t testing.TB, data []byte) []string {
	t.Helper()
	var lines []string
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Zero(t, h.Uid+h.Gid)
		require.Empty(t, h.Uname)
		require.LessOrEqual(t, h.Mode, int64(0o777))
		lines = append(lines, strings.TrimSpace(string(h.Typeflag)+" "+h.Name+" "+h.Linkname+" "+strings.TrimSpace(string(text))))
	}
}

func TestRepack(t *testing.T) {
	t.Parallel()
	data := archive(t,
		entry{name: "kitt-build-context/", kind: tar.TypeDir},
		entry{name: "./kitt-build-context/src/a.py", text: "print()\n"},
		entry{name: "kitt-build-context/src/b.py", link: "a.py", kind: tar.TypeSymlink},
		entry{name: "kitt-build-context/c.py", link: "kitt-build-context/src/a.py", kind: tar.TypeLink},
		dockerfile,
		entry{name: "kitt-build-context/src/a.py", text: "print()\n"},
	)
	for name, in := range map[string][]byte{"plain": data, "gzip": zipped(t, data)} {
		t.Run(name, func(t *testing.T) {
			out, err := repack(in, imagebuild.DefaultLimits)
			require.NoError(t, err)
			require.Equal(t, []string{
				"0 src/a.py  print()", "2 src/b.py a.py", "1 c.py src/a.py", "0 docker/web/Dockerfile  FROM scratch", "0 src/a.py  print()",
			}, listing(t, out))
		})
	}
}

func TestRepackWithoutTheServersDirectory(t *testing.T) {
	t.Parallel()
	out, err := repack(archive(t, entry{name: "docker/web/Dockerfile", text: "FROM x"}, entry{name: "kitt-build-context/a"}), imagebuild.DefaultLimits)
	require.NoError(t, err)
	require.Equal(t, []string{"0 docker/web/Dockerfile  FROM x", "0 kitt-build-context/a"}, listing(t, out))
}

func TestRepackRefuses(t *testing.T) {
	t.Parallel()
	const root = "kitt-build-context/"
	dir := entry{name: root, kind: tar.TypeDir}
	for name, c := range map[string]struct {
		entries []entry
		want    string
	}{
		"absolute":            {[]entry{{name: "/etc/passwd"}}, "absolute path"},
		"up":                  {[]entry{{name: root + "../../etc/passwd"}}, "leads out"},
		"up and down":         {[]entry{dir, {name: root + "a/../b"}}, "leads out"},
		"outside":             {[]entry{dir, {name: "other/file"}}, "is outside"},
		"root as a file":      {[]entry{dir, {name: "kitt-build-context"}}, "the context itself"},
		"device":              {[]entry{dir, {name: root + "null", kind: tar.TypeChar}}, "device"},
		"fifo":                {[]entry{dir, {name: root + "pipe", kind: tar.TypeFifo}}, "device"},
		"link out":            {[]entry{dir, {name: root + "a/l", link: "../../x", kind: tar.TypeSymlink}}, "leads out"},
		"absolute link":       {[]entry{dir, {name: root + "l", link: "/etc", kind: tar.TypeSymlink}}, "absolute path"},
		"link through a link": {[]entry{dir, {name: root + "a/b/d", link: "../..", kind: tar.TypeSymlink}, {name: root + "a/b/x", link: "d/../y", kind: tar.TypeSymlink}}, "down and up"},
		"below a link":        {[]entry{dir, {name: root + "l", link: "a", kind: tar.TypeSymlink}, {name: root + "l/x"}}, "no directory"},
		"link over a parent":  {[]entry{dir, {name: root + "l/x"}, {name: root + "l", link: "a", kind: tar.TypeSymlink}}, "twice"},
		"below a file":        {[]entry{dir, {name: root + "f", text: "x"}, {name: root + "f/x"}}, "no directory"},
		"hard link out":       {[]entry{dir, {name: root + "h", link: "/etc/passwd", kind: tar.TypeLink}}, "no file before it"},
		"hard link beside":    {[]entry{dir, {name: root + "h", link: "etc/passwd", kind: tar.TypeLink}}, "no file before it"},
		"hard link to a link": {[]entry{dir, {name: root + "l", link: "a", kind: tar.TypeSymlink}, {name: root + "h", link: root + "l", kind: tar.TypeLink}}, "no file before it"},
		"twice":               {[]entry{dir, {name: root + "a"}, {name: root + "a", kind: tar.TypeDir}}, "twice"},
		"newline":             {[]entry{dir, {name: root + "a\nb"}}, "plain text"},
		"not UTF-8":           {[]entry{dir, {name: root + "a\xff"}}, "plain text"},
		"long name":           {[]entry{dir, {name: root + strings.Repeat("n", 2000)}}, "more than 1024 bytes"},
		"no Dockerfile":       {[]entry{dir, {name: root + "a"}}, "no docker/web/Dockerfile"},
		"nothing":             {nil, "no docker/web/Dockerfile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := repack(archive(t, c.entries...), imagebuild.DefaultLimits)
			fault, ok := errors.AsType[*imagebuild.ContextError](err)
			require.True(t, ok, "%v", err)
			require.ErrorContains(t, fault, c.want)
		})
	}
}

func TestRepackRefusesBombs(t *testing.T) {
	t.Parallel()
	zeroes := strings.Repeat("\x00", 70<<20)
	bomb := zipped(t, archive(t, dockerfile, entry{name: "kitt-build-context/zeroes", text: zeroes}))
	require.Less(t, len(bomb), 1<<20)
	_, err := repack(bomb, imagebuild.DefaultLimits)
	require.ErrorContains(t, err, "more than 200 times its size")

	few := imagebuild.Limits{Entries: 4, Bytes: 1 << 20, Path: 100, Ratio: 10}
	_, err = repack(archive(t, dockerfile, entry{name: "kitt-build-context/a"}, entry{name: "kitt-build-context/b"}), few)
	require.ErrorContains(t, err, "one too many", "directories that nobody named count")
	_, err = repack(archive(t, entry{name: "kitt-build-context/a"}, entry{name: "kitt-build-context/b"}, entry{name: "kitt-build-context/c"}, entry{name: "kitt-build-context/d"}, entry{name: "kitt-build-context/e"}), few)
	require.ErrorContains(t, err, "one too many")
	_, err = repack(archive(t, dockerfile, entry{name: "kitt-build-context/a", text: zeroes[:1<<20]}), few)
	require.ErrorContains(t, err, "more than 1048576 bytes")
}

func TestRepackOfDamagedArchives(t *testing.T) {
	t.Parallel()
	data := zipped(t, archive(t, dockerfile, entry{name: "kitt-build-context/a", text: strings.Repeat("abc", 1000)}))
	for name, in := range map[string][]byte{
		"cut":     data[:len(data)-20],
		"no tar":  []byte(strings.Repeat("this is no tar\n", 100)),
		"no gzip": append([]byte{0x1f, 0x8b}, "no gzip"...),
		"flipped": append(bytes.Clone(data[:len(data)-6]), 1, 2, 3, 4, 5, 6),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := repack(in, imagebuild.DefaultLimits)
			_, ok := errors.AsType[*imagebuild.ContextError](err)
			require.True(t, ok, "%v", err)
		})
	}
}

// FuzzRepack gives it any archive: what comes out is one that can be read and
// has nothing in it that leads out.
func FuzzRepack(f *testing.F) {
	f.Add(archive(f, dockerfile, entry{name: "kitt-build-context/l", link: "docker", kind: tar.TypeSymlink}))
	f.Add(zipped(f, archive(f, dockerfile)))
	f.Add(archive(f, dockerfile, entry{name: "../x"}, entry{name: "/y"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := repack(data, imagebuild.Limits{Entries: 100, Bytes: 1 << 20, Path: 100, Ratio: 100})
		if err != nil {
			return
		}
		r := tar.NewReader(bytes.NewReader(out))
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			require.NoError(t, err)
			require.True(t, inside(h.Name), h.Name)
			switch h.Typeflag {
			case tar.TypeSymlink:
				require.False(t, path.IsAbs(h.Linkname))
				require.True(t, inside(path.Join(path.Dir(h.Name), h.Linkname)), "%s -> %s", h.Name, h.Linkname)
			case tar.TypeLink:
				require.True(t, inside(h.Linkname), h.Linkname)
			default:
				require.Contains(t, []byte{tar.TypeReg, tar.TypeDir}, h.Typeflag)
			}
		}
	})
}

func inside(name string) bool {
	return !path.IsAbs(name) && name != ".." && !strings.HasPrefix(path.Clean(name), "../") && path.Clean(name) != ".."
}
