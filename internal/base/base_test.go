package base_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
)

func TestJSONFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.json")
	require.ErrorIs(t, base.ReadJSON(path, new(int), 10), os.ErrNotExist)
	require.NoError(t, base.WriteJSON(path, []int{1, 2, 3}, 8))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "[1,2,3]\n", string(text))

	var back []int
	require.NoError(t, base.ReadJSON(path, &back, 8))
	require.Equal(t, []int{1, 2, 3}, back)
	require.ErrorIs(t, base.ReadJSON(path, &back, 7), base.ErrTooLarge)
	require.Error(t, base.WriteJSON(path, func() {}, 8))
	require.ErrorIs(t, base.WriteJSON(path, []int{1, 2, 3, 4}, 8), base.ErrTooLarge)
	require.NoError(t, base.ReadJSON(path, &back, 8), "a failed write leaves the file")

	require.NoError(t, os.WriteFile(path, []byte("[1"), 0o600))
	require.ErrorContains(t, base.ReadJSON(path, &back, 8), path)
	require.ErrorContains(t, base.ReadJSON(filepath.Dir(path), &back, 8), "not a regular file")
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	require.ErrorContains(t, base.ReadJSON(pipe, &back, 8), "not a regular file", "nothing waits for a writer")
	require.NoError(t, base.SyncDir(filepath.Dir(path)))
	require.ErrorIs(t, base.SyncDir(path+"/nowhere"), unix.ENOTDIR)
}

func TestEncodeJSON(t *testing.T) {
	t.Parallel()
	text, err := base.EncodeJSON("<&>\u2028")
	require.NoError(t, err)
	require.Equal(t, "\"<&>\\u2028\"\n", string(text))
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	var b base.Broadcast
	b.Send() // nobody waits
	first, second := b.Wait(), b.Wait()
	b.Send()
	<-first
	<-second
	select {
	case <-b.Wait():
		t.Error("an old Send wakes a new Wait")
	default:
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "link")
	require.False(t, base.Exists(path))
	require.NoError(t, os.Symlink("nowhere", path))
	require.True(t, base.Exists(path))
}

func TestText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "plain ö", base.Printable("plain ö", 7))
	require.Equal(t, "plain…", base.Printable("plain ö", 5))
	require.Equal(t, "a\uFFFD[31mb\uFFFDc\uFFFD", base.Printable("a\x1b[31mb\nc\xff", 80))
	require.Equal(t, "\uFFFDtxt.exe", base.Printable("\u202Etxt.exe", 80), "a right-to-left override")
	require.Equal(t, "a b c", base.OneLine(" a\n\tb\u2028c\x00"))
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		require.NoError(t, base.Wait(ctx, time.Hour))
		require.Equal(t, time.Hour, time.Since(start))
		require.NoError(t, base.Wait(ctx, -1))
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		require.ErrorIs(t, base.Wait(ctx, time.Hour), cause)
		require.Equal(t, time.Hour+time.Minute, time.Since(start))
		require.ErrorIs(t, base.Wait(ctx, 0), cause)
	})
}

func TestBootID(t *testing.T) {
	t.Parallel()
	require.Equal(t, base.BootID(), base.BootID())
	if base.Exists("/proc/sys/kernel/random/boot_id") {
		require.Len(t, base.BootID(), 36)
	}
}

func TestJSONStream(t *testing.T) {
	t.Parallel()
	var name, inner string
	var yes, no bool
	s := base.NewJSONStream(strings.NewReader(`{"skipped":[{"name":"x"},[1e999]],"name":"a","yes":true,"no":"text","inner":{"name":"b","more":{}},"name2":1}`))
	require.NoError(t, s.Object(map[string]func() error{
		"name": s.Text(&name), "yes": s.Bool(&yes), "no": s.Bool(&no),
		"inner": func() error { return s.Object(map[string]func() error{"name": s.Text(&inner)}) },
	}))
	require.Equal(t, []any{"a", "b", true, false}, []any{name, inner, yes, no})

	for _, text := range []string{`[1,{"name":"x"}]`, `"name"`, `null`, `7`} {
		s := base.NewJSONStream(strings.NewReader(text))
		require.NoError(t, s.Object(map[string]func() error{"name": s.Text(&name)}), text)
	}
	for _, text := range []string{``, `{"name":`, `{"x":[`, `{"name":"a"`} {
		s := base.NewJSONStream(strings.NewReader(text))
		require.Error(t, s.Object(map[string]func() error{"name": s.Text(&name)}), text)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := base.Reader(ctx, strings.NewReader("text"))
	p := make([]byte, 2)
	n, err := r.Read(p)
	require.NoError(t, err)
	require.Equal(t, "te", string(p[:n]))
	cancel(cause)
	_, err = r.Read(p)
	require.ErrorIs(t, err, cause)
}
