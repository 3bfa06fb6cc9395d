package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhichVariablesAreSecret(t *testing.T) {
	t.Parallel()
	c, _, err := Sources{Getenv: environ(), Path: write(t, `env:
  HF_TOKEN: hf_literal0123456789
  OPENAI_API_KEY: x
  db_password: y
  AWS_CREDENTIALS: z
  FROM_ENV: $SOMETHING
  FROM_FILE: file:/run/x
  SAID: {value: v, secret: true}
  DENIED_KEY: {value: v, secret: false}
  PLAIN_REF: {value: $LEVEL, secret: false}
  VLLM_LOGGING_LEVEL: WARNING
  TOKENIZERS_PARALLELISM: false
  DOLLAR: $$x
  OTHER: hf_abcdefghijklmnop
`)}.Resolve()
	require.NoError(t, err)
	for name, want := range map[string]bool{
		"HF_TOKEN": true, "OPENAI_API_KEY": true, "db_password": true, "AWS_CREDENTIALS": true, "FROM_ENV": true, "FROM_FILE": true,
		"SAID": true, "DENIED_KEY": false, "PLAIN_REF": false, "VLLM_LOGGING_LEVEL": false, "TOKENIZERS_PARALLELISM": false, "DOLLAR": false,
		"OTHER": false,
	} {
		require.Equal(t, want, c.Env[name].Secret(), name)
		require.Equal(t, name == "OTHER", c.Env[name].LooksLikeKey(), name)
	}
}

func TestBadSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"env: {A: {secret: true}}":              "A: it has no value",
		"env: {A: {value: x, secret: maybe}}":   "A: secret is neither true nor false",
		"env: {A: {value: x, secret: no}}":      "A: secret is neither true nor false",
		"env: {A: {value: x, sercet: true}}":    `A: "sercet" is neither value nor secret`,
		"env: {A: {value: [x]}}":                "A: it is a list or a map",
		"env: {A: {value: x, secret: {a: b}}}":  "A: secret is neither true nor false",
		"env: {A: {value: '$', secret: false}}": "a $ itself is written $$",
	} {
		_, _, err := Sources{Getenv: environ(), Path: write(t, text)}.Resolve()
		require.ErrorContains(t, err, want, text)
	}
}
