package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Settings that don't fit together are named with the line of one of them.
func TestSettingsTogetherNameALine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"port: 1\nmodel_share_mount: /m/models/share\nmodel_storage_dir: /m/models\n": `agent.yaml:2: model_share_mount: model_storage_dir "/m/models" and model_share_mount "/m/models/share" are inside each other; keep them apart`,
		"model_storage_dir: /m\nport: 1\nmodel_share_mount: /m\n":                     "agent.yaml:3: model_share_mount: ",
		"port: 1\nrequire_client_cert: true\n":                                        "agent.yaml:2: require_client_cert: there is nothing to check certificates with",
		"port: 1\ntls:\n  key: /k.pem\n":                                              "agent.yaml:3: tls: of cert and key only one is set",
	} {
		_, _, err := resolve(t, text)
		require.ErrorContains(t, err, want)
	}
}
