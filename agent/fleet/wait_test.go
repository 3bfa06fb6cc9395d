package fleet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWaitEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Fleet{meter: &meter{}}
		require.NoError(t, f.WaitEnded(t.Context(), 0))
		enough := errors.New("enough")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Hour, func() { stop(enough) })
		start := time.Now()
		require.ErrorIs(t, f.WaitEnded(ctx, 1), enough)
		require.Equal(t, time.Hour, time.Since(start))
	})
}
