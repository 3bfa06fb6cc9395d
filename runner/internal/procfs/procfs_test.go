package procfs

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	self, ok := Lookup(os.Getpid())
	require.True(t, ok)
	require.True(t, self.Alive())
	require.False(t, ID{PID: self.PID, Start: self.Start + 1}.Alive())
	require.Contains(t, All(), self)
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	p := func(pid, parent int) Process { return Process{ID: ID{PID: pid}, Parent: parent} }
	all := []Process{p(4, 3), p(3, 2), p(2, 1), p(9, 1), p(2, 4)}
	var pids []int
	for _, d := range Descendants(all, 2) {
		pids = append(pids, d.PID)
	}
	require.Equal(t, []int{3, 4}, pids)
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	f.Add([]byte("1 (x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, ok := parseStat(text)
		if ok && (p.PID <= 0 || !strings.Contains(string(text), ")")) {
			t.Fatalf("%q gave %+v", text, p)
		}
	})
}
