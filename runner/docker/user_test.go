package docker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChoose is the table of the documentation.
func TestChoose(t *testing.T) {
	t.Parallel()
	asUser := identity{user: "1000:1001", groups: []string{"44", "105"}, home: true}
	for _, tt := range []struct {
		setting, image string
		uid            int
		mapped         bool
		want           identity
	}{
		{"", "", 0, false, identity{root: true}},
		{"", "root", 0, false, identity{root: true}},
		{"", "kitt", 0, false, identity{}},
		{"", "", 1000, false, asUser},
		{"", "0:0", 1000, false, asUser},
		{"", "1234", 1000, false, identity{}},
		{"", "", 1000, true, identity{root: true}},
		{"image", "", 1000, false, identity{root: true}},
		{"image", "kitt", 1000, false, identity{}},
		{"1234:5", "", 1000, false, identity{user: "1234:5", home: true}},
		{"root", "kitt", 1000, false, identity{user: "root", root: true, home: true}},
	} {
		got := choose(tt.setting, tt.image, tt.uid, 1001, []int{44, 1001, 105}, tt.mapped)
		require.Equal(t, tt.want, got, "%+v", tt)
	}
	require.True(t, mapsUsers([]string{"name=seccomp,profile=default", "name=rootless"}))
	require.True(t, mapsUsers([]string{"name=userns,x"}))
	require.False(t, mapsUsers([]string{"name=seccomp,profile=rootless", "name=usernsx"}))
}
