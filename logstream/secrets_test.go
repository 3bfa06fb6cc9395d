package logstream

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// secretive returns a log that knows secrets, and its path.
func secretive(t testing.TB, secrets ...string) (*Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{Secrets: secrets})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, path
}

func TestSecretsAreReplaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		secrets []string
		given   string
		want    string
	}{
		{"in a line", []string{"hf_abcdefgh"}, "token hf_abcdefgh, twice hf_abcdefgh", "token [redacted], twice [redacted]"},
		{"too short to tell from a word", []string{"short"}, "short", "short"},
		{"one within another", []string{"hf_abc", "hf_abcdefgh"}, "hf_abcdefgh hf_abc", "[redacted] [redacted]"},
		{"overlapping", []string{"abcdef", "defghi"}, "xabcdefghix", "x[redacted]x"},
		{"beside each other", []string{"abcdef"}, "abcdefabcdef", "[redacted][redacted]"},
		{"of several lines", []string{"-----BEGIN\r\nMIIEvQ\nab\n-----END"}, "MIIEvQ ab -----END", "[redacted] ab [redacted]"},
		{"in a URL", []string{"p@ss/word"}, "https://me:p%40ss%2Fword@host", "https://me:[redacted]@host"},
		{"in JSON", []string{`p"ss\word`}, `{"password":"p\"ss\\word"}`, `{"password":"[redacted]"}`},
		{"none", nil, "nothing to hide", "nothing to hide"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, _ := secretive(t, tt.secrets...)
			l.Append([]byte(tt.given+"\n"), time.Time{}, Position{})
			l.Note(tt.given)
			require.Equal(t, []string{tt.want, tt.want}, texts(all(t, l)))
		})
	}
}

func TestSecretsInBase64AreReplaced(t *testing.T) {
	t.Parallel()
	const secret = "hf_abcdefghij"
	r := NewRedactor([]string{secret})
	for before := range 7 {
		for after := range 4 {
			plain := strings.Repeat("u", before) + secret + strings.Repeat("v", after)
			got := string(r.replace([]byte(base64.StdEncoding.EncodeToString([]byte(plain)))))
			require.Contains(t, got, redacted, "%d bytes before, %d after", before, after)
			require.LessOrEqual(t, len(got)-len(redacted), (before+2)/3*4+(after+2)/3*4+8)
		}
	}
}

func TestTheEndOfALogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	l, path := secretive(t, "hf_abcdefgh")
	require.NoError(t, l.Finish(Final{Status: "failed", Error: "401 for hf_abcdefgh"}))
	end, ok := l.Final()
	require.True(t, ok)
	require.Equal(t, "401 for [redacted]", end.Error)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hf_abc")
}

// TestAnOpenLineShowsNoHalfSecret stops in the middle of a secret for so long
// that the line is shown.
func TestAnOpenLineShowsNoHalfSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, path := secretive(t, "hf_abcdefgh")
		l.Append([]byte("token hf_abcd"), time.Time{}, Position{})
		time.Sleep(time.Second)
		require.Equal(t, []string{"token "}, texts(all(t, l), Progress))
		l.Append([]byte("efgh\n"), time.Time{}, Position{Byte: 13})
		require.Equal(t, []string{"token [redacted]"}, texts(all(t, l), Output))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(text), "hf_")
	})
}

// TestNoSecretShowsHoweverItComes puts a secret anywhere, also where a long line
// is split, in pieces and entries that end anywhere.
func TestNoSecretShowsHoweverItComes(t *testing.T) {
	t.Parallel()
	const secret = "hf_SECRET"
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "log")
		defer os.Remove(path)
		l, err := Open(path, Options{Secrets: []string{secret}})
		require.NoError(t, err)
		defer l.Close()
		before := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(MaxLine-40, MaxLine+10)).Draw(t, "before")
		output := strings.Repeat("x", before) + secret + "y\n"
		pos := Position{Stamp: 1}
		for at := 0; at < len(output); {
			n := rapid.OneOf(rapid.IntRange(1, 9), rapid.Just(16<<10)).Draw(t, "piece")
			n = min(n, len(output)-at)
			if at < MaxLine-60 {
				n = min(MaxLine-60, len(output)-at)
			}
			l.Append([]byte(output[at:at+n]), time.Time{}, pos)
			at += n
			if pos.Byte += int64(n); rapid.Bool().Draw(t, "next entry") {
				pos = Position{Stamp: pos.Stamp + 1}
			}
		}
		got := strings.Join(texts(all(t, l)), "")
		require.Equal(t, fmt.Sprintf("%s%sy", strings.Repeat("x", before), redacted), got)
	})
}
