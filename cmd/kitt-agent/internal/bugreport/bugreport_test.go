package bugreport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func says(text string, err error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, text)
		return err
	}
}

func TestSecretsAreReplaced(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"the token my-token-1234 is":                                     "the token [redacted] is",
		`"api_key": "abc123"`:                                            `"api_key": "[redacted]"`,
		"HF_TOKEN=hf_abcdefghijklmnop and more":                          "HF_TOKEN=[redacted] and more",
		"Authorization: Bearer abc.def.ghi123":                           "Authorization: Bearer [redacted]",
		"http://user:pass@proxy:3128/x":                                  "http://[redacted]@proxy:3128/x",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig":                       "[redacted]",
		"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n": "[redacted]\n",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n":                        "[redacted]",
		"db_password: hunter2":                                           "db_password: [redacted]",
		"12 tokens per second":                                           "12 tokens per second",
		"tokens: 12":                                                     "tokens: [redacted]",
		"a\x1b[2Jb\tc":                                                   `a\x1b[2Jb\tc`,
	} {
		got := Gather(t.Context(), []Section{{Name: "x", Write: says(in, nil)}}, []string{"my-token-1234"})
		require.Equal(t, want, got[0].Text, in)
	}
}

// A section that fails, panics or hangs leaves what it wrote, and the others.
func TestBrokenSections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		got := Gather(t.Context(), []Section{
			{Name: "fails", Write: says("half", errors.New("no more"))},
			{Name: "panics", Write: func(context.Context, io.Writer) error { panic("oops") }},
			{Name: "hangs", Limit: time.Minute, Write: func(_ context.Context, w io.Writer) error {
				_, _ = io.WriteString(w, "begun\n")
				<-release
				return nil
			}},
			{Name: "fine", Write: says("all\n", nil)},
		}, nil)
		require.Equal(t, []Text{
			{"fails", "half\n(incomplete: no more)\n"},
			{"panics", "(incomplete: panicked: oops)\n"},
			{"hangs", "begun\n(incomplete: not done within 1m0s)\n"},
			{"fine", "all\n"},
		}, got)
	})
}

func TestLongSection(t *testing.T) {
	t.Parallel()
	got := Gather(t.Context(), []Section{{Name: "x", Write: func(_ context.Context, w io.Writer) error {
		block := strings.Repeat(strings.Repeat("x", 1023)+"\n", 64)
		for range 80 {
			_, _ = io.WriteString(w, block)
		}
		_, _ = io.WriteString(w, "the end\n")
		return nil
	}}}, nil)
	require.LessOrEqual(t, len(got[0].Text), maxSection+100)
	require.True(t, strings.HasPrefix(got[0].Text, "(the beginning is left out)\nxxx"))
	require.True(t, strings.HasSuffix(got[0].Text, "the end\n"))
}

func TestForms(t *testing.T) {
	t.Parallel()
	texts := []Text{{"a.txt", "one\n"}, {"b.txt", "two"}}
	var text bytes.Buffer
	require.NoError(t, WriteText(&text, texts))
	require.Equal(t, "===== a.txt =====\none\n\n===== b.txt =====\ntwo\n", text.String())

	var packed bytes.Buffer
	require.NoError(t, WriteArchive(&packed, "dir", texts, time.Unix(1e9, 0)))
	zip, err := gzip.NewReader(&packed)
	require.NoError(t, err)
	archive := tar.NewReader(zip)
	for _, want := range texts {
		h, err := archive.Next()
		require.NoError(t, err)
		require.Equal(t, "dir/"+want.Name, h.Name)
		require.EqualValues(t, 0o600, h.Mode)
		got, err := io.ReadAll(archive)
		require.NoError(t, err)
		require.Equal(t, want.Text, string(got))
	}
	_, err = archive.Next()
	require.ErrorIs(t, err, io.EOF)
}

// No known secret survives, whatever surrounds it.
func FuzzRedact(f *testing.F) {
	f.Add("before ", " after")
	f.Add("token=\"", "\"")
	f.Fuzz(func(t *testing.T, before, after string) {
		got := Gather(t.Context(), []Section{{Name: "x", Write: says(before+"my-token-1234"+after, nil)}}, []string{"my-token-1234"})
		require.NotContains(t, got[0].Text, "my-token-1234")
	})
}
