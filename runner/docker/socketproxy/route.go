package socketproxy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An action is what a request asks for.
type action string

// The actions, by what docker calls them.
const (
	actPing         action = "ping"
	actVersion      action = "version"
	actInfo         action = "info"
	actImageInspect action = "image inspect"
	actPull         action = "pull"
	actBuild        action = "build"
	actCreate       action = "create"
	actList         action = "ps"
	actInspect      action = "inspect"
	actLogs         action = "logs"
	actStart        action = "start"
	actStop         action = "stop"
	actKill         action = "kill"
	actWait         action = "wait"
	actRemove       action = "rm"
	actExecCreate   action = "exec create"
	actExecStart    action = "exec start"
	actExecInspect  action = "exec inspect"
)

// A route is a parsed method and path.
type route struct {
	action  action
	version string // /v1.41, or empty
	ref     string // the name or ID of what it is about
}

const (
	minMinor = 40   // of the API's version 1, which is that of Docker 19.03
	maxPath  = 1024 // bytes
)

var (
	apiVersion = regexp.MustCompile(`^v1\.([0-9]{1,3})$`)
	refPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`) // of a container or an exec
)

// whole are the routes whose path is known as a whole.
var whole = map[string]action{
	"HEAD /_ping": actPing, "GET /_ping": actPing, "GET /version": actVersion, "GET /info": actInfo,
	"POST /images/create": actPull, "POST /build": actBuild,
	"POST /containers/create": actCreate, "GET /containers/json": actList,
}

// ofOne are those of one container or exec, by the path without its name.
var ofOne = map[string]action{
	"GET /containers//json": actInspect, "GET /containers//logs": actLogs,
	"POST /containers//start": actStart, "POST /containers//stop": actStop, "POST /containers//kill": actKill,
	"POST /containers//wait": actWait, "DELETE /containers/": actRemove,
	"POST /containers//exec": actExecCreate, "POST /exec//start": actExecStart, "GET /exec//json": actExecInspect,
}

// parseRoute returns what a request asks for by its path as it was sent. Escapes are
// refused: nothing that is allowed needs one, and an engine might read them otherwise.
func parseRoute(method, path string) (route, error) {
	denied := refuse("a benchmark may not use %s %.200q of the container engine, only what `kitt run` needs", method, path)
	parts := strings.Split(path, "/")
	if len(path) > maxPath || len(parts) < 2 || parts[0] != "" || strings.ContainsAny(path, "%\\?#;") {
		return route{}, denied
	}
	parts = parts[1:]
	if slices.ContainsFunc(parts, func(part string) bool { return part == "" || part == "." || part == ".." }) {
		return route{}, denied
	}
	var r route
	if m := apiVersion.FindStringSubmatch(parts[0]); m != nil {
		if minor, err := strconv.Atoi(m[1]); err != nil || minor < minMinor {
			return route{}, invalid("client version 1.%s is too old: the least is 1.%d", m[1], minMinor)
		}
		r.version, parts = "/"+parts[0], parts[1:]
	}
	rest := "/" + strings.Join(parts, "/")
	if r.action = whole[method+" "+rest]; r.action != "" {
		return r, nil
	}
	if len(parts) > 2 && method == "GET" && parts[0] == "images" && parts[len(parts)-1] == "json" {
		r.action, r.ref = actImageInspect, strings.Join(parts[1:len(parts)-1], "/")
		return r, nil
	}
	if len(parts) < 2 || len(parts) > 3 || !refPattern.MatchString(parts[1]) {
		return route{}, denied
	}
	r.ref, parts[1] = parts[1], ""
	if r.action = ofOne[method+" /"+strings.Join(parts, "/")]; r.action == "" {
		return route{}, denied
	}
	return r, nil
}
