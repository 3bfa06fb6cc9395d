package supervisor

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIndexFindsTheTimeOfEachByte(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0) }
	file := appendIndex(appendIndex(appendIndex(nil, 10, at(1)), 30, at(2)), 31, at(9))
	r := indexReader{file: bytes.NewReader(file)}
	for _, c := range []struct {
		offset, upTo int64
		at           time.Time
	}{{0, 10, at(1)}, {9, 10, at(1)}, {10, 30, at(2)}, {29, 30, at(2)}, {30, 31, at(9)}} {
		when, upTo, ok := r.find(c.offset)
		require.True(t, ok)
		require.Equal(t, c.upTo, upTo)
		require.True(t, c.at.Equal(when))
	}
	_, _, ok := r.find(31)
	require.False(t, ok, "it was printed after the last entry")

	// An entry that goes back, in size or time, ends an index.
	for _, bad := range [][]byte{appendIndex(nil, 5, at(3)), appendIndex(nil, 11, at(0)), appendIndex(nil, -1, at(3))} {
		r := indexReader{file: bytes.NewReader(append(appendIndex(nil, 10, at(1)), bad...))}
		_, _, ok := r.find(0)
		require.True(t, ok)
		_, _, ok = r.find(10)
		require.False(t, ok)
	}
}

func TestGapsJoin(t *testing.T) {
	t.Parallel()
	var g Gaps
	g.add(100, 50)
	require.Empty(t, g.Unread, "it was read")
	g.add(100, 200)
	g.add(100, 300)
	require.Equal(t, []Range{{100, 300}}, g.Unread, "neighbours are one")
	for i := range int64(1000) {
		g.add(400+i*100, 450+i*100)
	}
	require.Len(t, g.Unread, maxGaps)
	require.EqualValues(t, 450+999*100, g.Freed)
	text, err := g.encode()
	require.NoError(t, err)
	require.Len(t, text, gapsSize)
	again, err := parseGaps(text)
	require.NoError(t, err)
	require.Equal(t, g.Freed, again.Freed)
	require.Equal(t, g.Unread, again.Unread)
}
