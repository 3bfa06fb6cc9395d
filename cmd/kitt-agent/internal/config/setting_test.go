package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every key is shown with its origin, and no secret, however it is written.
func TestSettings(t *testing.T) {
	t.Parallel()
	c, _, err := resolve(t, "token: secret-1\nserver_token: secret-2\nport: 9000\nallowed_images: [a/b, \"c\"]\nnotify:\n  url: https://secret-3/x\n"+
		"env:\n  HF_TOKEN: secret-4\n  MODE: secret-5\n  OTHER: file:/etc/x\n  THIRD: {value: secret-6, secret: true}\n")
	require.NoError(t, err)
	settings := c.Settings()
	require.Len(t, settings, len(Keys()))
	byKey := map[string]Setting{}
	for _, s := range settings {
		byKey[s.Key] = s
	}
	require.Equal(t, "9000", byKey["port"].Value)
	require.True(t, strings.HasSuffix(byKey["port"].Origin, "agent.yaml:3"))
	require.Equal(t, "[a/b, c]", byKey["allowed_images"].Value)
	require.Equal(t, "[redacted]", byKey["token"].Value)
	require.Equal(t, Setting{"disk_low", "2GiB", "default"}, byKey["disk_low"])
	require.Equal(t, "HF_TOKEN: [redacted], MODE: [redacted], OTHER: file:/etc/x, THIRD: [redacted]", byKey["env"].Value)
	require.NotContains(t, fmt.Sprint(settings), "secret-")
}
