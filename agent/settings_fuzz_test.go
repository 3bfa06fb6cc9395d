package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzOffer has a server send a value for each setting, and then another.
func FuzzOffer(f *testing.F) {
	f.Add("~/.kitt/models", "/data")
	f.Add("300", "5")
	f.Add("nas:/models", "../x\x00")
	f.Fuzz(func(t *testing.T, first, second string) {
		s, err := newSettings(Settings{ModelDir: "/data", ShareMount: "/mnt/models"}, []string{"registry.example/kitt*"})
		require.NoError(t, err)
		for _, value := range []string{first, second} {
			sent := map[string]string{"unknown": value}
			for _, each := range s.all {
				sent[each.name] = value
			}
			s.offer(sent)
			for _, each := range s.all {
				require.True(t, each.value == "" || each.value == each.own || each.check(each.value) == nil, "%s: %q", each.name, each.value)
			}
		}
		require.True(t, s.interval() >= 10*time.Second && s.interval() <= 300*time.Second)
	})
}
