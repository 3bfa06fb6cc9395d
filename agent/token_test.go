package agent

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheTokenOfCallersIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		current, reads := Secret("old"), 0
		token := &callerToken{now: "old", readAgain: func() Secret { reads++; return current }}
		presents := func(text string) bool {
			r := &http.Request{Header: http.Header{}}
			if text != "" {
				r.Header.Set("Authorization", "Bearer "+text)
			}
			return token.presents(r)
		}
		require.True(t, presents("old"))
		require.False(t, presents(""))
		require.Zero(t, reads)
		for range 100 {
			require.False(t, presents("guess"))
		}
		require.Equal(t, 1, reads, "guesses don't keep the disk busy")

		current = "new"
		<-time.After(time.Second)
		require.True(t, presents("new"))
		require.False(t, presents("old"))
		current = ""
		<-time.After(time.Second)
		require.False(t, presents("x"))
		require.True(t, presents("new"), "no token in the file opens nothing")
	})
}
