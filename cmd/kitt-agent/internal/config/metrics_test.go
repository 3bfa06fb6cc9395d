package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Metrics are off by default where the API has TLS: Prometheus would need a certificate.
func TestServesMetrics(t *testing.T) {
	t.Parallel()
	const tls = "tls:\n  cert: /c.pem\n  key: /k.pem\n"
	for text, want := range map[string]bool{
		"port: 1\n":                              true,
		tls:                                      false,
		tls + "metrics: true\n":                  true,
		tls + "metrics_listen: 127.0.0.1:9095\n": true,
		"metrics: false\n":                       false,
		"metrics_listen: \":9095\"\n":            true,
		"metrics: true\nmetrics_listen: '[::1]:9095'\n": true,
	} {
		c, _, err := resolve(t, text)
		require.NoError(t, err, text)
		require.Equal(t, want, c.ServesMetrics(), text)
	}
	for text, want := range map[string]string{
		"metrics_listen: 9095\n":                           "it is not an address and a port",
		"metrics_listen: 127.0.0.1:0\n":                    "its port is not from 1 to 65535",
		"metrics_listen: gpu.example:9095\n":               "it is no IP address",
		"metrics: false\nmetrics_listen: 127.0.0.1:9095\n": "metrics: false says that there are none",
	} {
		_, _, err := resolve(t, text)
		require.ErrorContains(t, err, want, text)
	}
}
