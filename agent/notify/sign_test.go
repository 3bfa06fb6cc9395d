package notify

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The example of Standard Webhooks' reference libraries.
func TestSignatureIsThatOfTheStandard(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	require.NoError(t, sign(h, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get("webhook-signature"))
	require.Equal(t, "1614265330", h.Get("webhook-timestamp"))
	h = http.Header{}
	require.NoError(t, sign(h, "", "x", time.Unix(1, 0), nil))
	require.Empty(t, h.Get("webhook-signature"))
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "x": 0, "30": 30 * time.Second, "999999999": maxAsked,
		"Sun, 29 Nov 2026 12:01:00 GMT": time.Minute, "Sun, 29 Nov 2026 11:59:00 GMT": 0, "Sun, 29 Nov 2099 12:01:00 GMT": maxAsked,
	} {
		require.Equal(t, want, retryAfter(text, now), text)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("30")
	f.Add("Sun, 29 Nov 2026 12:01:00 GMT")
	f.Fuzz(func(t *testing.T, text string) {
		d := retryAfter(text, time.Unix(1e9, 0))
		require.GreaterOrEqual(t, d, time.Duration(0))
		require.LessOrEqual(t, d, maxAsked)
	})
}
