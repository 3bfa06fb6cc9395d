package socketproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImages(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	for entry, want := range map[string]struct{ yes, no []string }{
		"ollama/ollama": {
			[]string{"ollama/ollama", "ollama/ollama:0.5", "docker.io/ollama/ollama:x", "index.docker.io/ollama/ollama", "ollama/ollama@" + digest},
			[]string{"ollama/ollama2", "x/ollama/ollama", "ghcr.io/ollama/ollama"},
		},
		"docker.io/ollama/ollama:1": {[]string{"ollama/ollama:1"}, []string{"ollama/ollama", "ollama/ollama:12", "ollama/ollama:1@" + digest}},
		"registry.example:5000/kitt*": {
			[]string{"registry.example:5000/kitt", "registry.example:5000/kitt-vllm:2"}, []string{"registry.example:5000/kitt/x", "registry.example/kitt"},
		},
		"kitt/vllm:arm*":      {[]string{"kitt/vllm:arm64"}, []string{"kitt/vllm:latest"}},
		"kitt/vllm@" + digest: {[]string{"kitt/vllm@" + digest}, []string{"kitt/vllm"}},
	} {
		p := Policy{Images: []string{entry}}
		for _, name := range want.yes {
			_, err := p.allowedImage(name)
			require.NoError(t, err, "%s by %s", name, entry)
		}
		for _, name := range want.no {
			_, err := p.allowedImage(name)
			require.ErrorContains(t, err, "policy.engine_images", "%s by %s", name, entry)
		}
	}
	for _, bad := range []string{"", "[", "x:[", ":1"} {
		_, err := parseEntry(bad)
		require.Error(t, err, bad)
	}
}

// TestPull fetches one image, by a tag or a digest, and never all tags of one.
func TestPull(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	for query, want := range map[string]string{
		"fromImage=vllm/vllm-openai&tag=v1":                                   "fromImage=vllm%2Fvllm-openai&tag=v1",
		"fromImage=docker.io%2Follama%2Follama":                               "fromImage=ollama%2Follama&tag=latest",
		"fromImage=ollama/ollama:2&platform=linux/arm64":                      "fromImage=ollama%2Follama&platform=linux%2Farm64&tag=2",
		"fromImage=nvcr.io/nvidia/vllm&tag=" + digest:                         "fromImage=nvcr.io%2Fnvidia%2Fvllm&tag=sha256%3A" + strings.Repeat("0", 64),
		"fromImage=ollama/ollama&tag=1&fromImage=alpine&evil=1&tag=2&FROMSRC": "fromImage=ollama%2Follama&tag=1",
	} {
		s, p := newProxy(t, nil)
		status, body := ask(p, "POST", "/v1.41/images/create?"+query, "")
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, "/v1.41/images/create?"+want, s.last().uri)
		require.Empty(t, s.last().body)
	}
	s, p := newProxy(t, nil)
	for query, text := range map[string]string{
		"fromImage=alpine&tag=latest":                    "is not one of policy.engine_images",
		"fromImage=ollama/ollama&fromSrc=-":              "may not import",
		"fromSrc=http://evil/x.tar&repo=ollama/ollama":   "may not import",
		"fromImage=kitt/llama-cpp&tag=spark":             "docker build -t kitt/llama-cpp:spark",
		"fromImage=ollama/ollama&tag=a@b":                "is not the name of an image",
		"fromImage=ollama/ollama&tag=1&platform=../../x": "is not a platform",
		"": "is not the name of an image",
	} {
		status, body := ask(p, "POST", "/images/create?"+query, "")
		require.Contains(t, []int{400, 403}, status, query)
		require.Contains(t, body, text, query)
	}
	require.Empty(t, s.changes())
	status, body := ask(p, "GET", "/images/alpine/json", "")
	require.Equal(t, 403, status, body)
	status, _ = ask(p, "GET", "/images/vllm/vllm-openai:latest/json", "")
	require.Equal(t, 200, status)
	require.Equal(t, "/images/vllm/vllm-openai:latest/json", s.last().uri)
}

func FuzzPull(f *testing.F) {
	f.Add("ollama/ollama", "latest")
	f.Add("ollama/ollama@sha256:"+strings.Repeat("0", 64), "")
	f.Fuzz(func(t *testing.T, name, tag string) {
		i, err := parsePull(name, tag)
		if err != nil {
			return
		}
		again, err := parseImage(i.String())
		require.NoError(t, err)
		require.Equal(t, i, again, "the engine reads what was checked")
		require.NotEmpty(t, i.version)
	})
}
