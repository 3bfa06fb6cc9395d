package process

import (
	"path"
	"slices"
	"strings"
)

// passed are the variables of this program's environment that a benchmark gets, as
// patterns of path.Match.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", "LD_LIBRARY_PATH",
	"CUDA_*", "NVIDIA_*", "HF_HOME", "HF_HUB_*", "*_proxy", "*_PROXY", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "VIRTUAL_ENV",
}

// Environment returns what a benchmark gets of an environment, as [os.Environ] returns
// one, unless Config.Env says otherwise: what programs need to find files, GPUs,
// models and proxies. The rest, which may hold anybody's secrets, it does not get;
// withheld has the names of that.
func Environment(environ []string) (env, withheld []string) {
	env = []string{} // nil would mean all
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if isPassed(name) {
			env = append(env, v)
		} else {
			withheld = append(withheld, name)
		}
	}
	return env, withheld
}

func isPassed(name string) bool {
	if strings.Contains(name, "TOKEN") {
		return false
	}
	return slices.ContainsFunc(passed, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // the patterns are well formed
		return ok
	})
}
