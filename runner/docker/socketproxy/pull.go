package socketproxy

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
)

// inspectImage answers with what the engine knows of an image of the policy.
func (p *Proxy) inspectImage(ctx context.Context, w http.ResponseWriter, route route) error {
	i, err := p.policy.allowedImage(route.ref)
	if err != nil {
		return err
	}
	return p.forward(ctx, w, call{method: http.MethodGet, path: route.version + "/images/" + i.String() + "/json"})
}

// maxCredential bounds a credential, in bytes.
const maxCredential = 16 << 10

// credential is the form of a registry's credential: base64 for URLs.
var credential = regexp.MustCompile(`^[A-Za-z0-9_=-]*$`)

// pull has the engine fetch an image of the policy.
func (p *Proxy) pull(ctx context.Context, w http.ResponseWriter, r *http.Request, route route, query url.Values) error {
	name, tag := query.Get("fromImage"), query.Get("tag")
	for _, other := range []string{"fromSrc", "repo", "message", "changes"} {
		if query.Get(other) != "" {
			return refuse("a benchmark may not import images")
		}
	}
	i, err := parsePull(name, tag)
	if err != nil {
		return err
	}
	if i, err = p.policy.allowedImage(i.String()); err != nil {
		return err
	}
	if i.local() {
		return refuseBuild(i.String())
	}
	asked := url.Values{"fromImage": {i.name}, "tag": {i.version}}
	if platform := query.Get("platform"); platform != "" {
		if !platformName.MatchString(platform) {
			return invalid("%.100q is not a platform", platform)
		}
		asked.Set("platform", platform)
	}
	header := http.Header{}
	if auth := r.Header.Get("X-Registry-Auth"); auth != "" {
		if len(auth) > maxCredential || !credential.MatchString(auth) {
			return invalid("the registry's credential can't be read")
		}
		header.Set("X-Registry-Auth", auth)
	}
	return p.forward(ctx, w, call{method: http.MethodPost, path: route.version + "/images/create", query: asked, header: header})
}

// parsePull returns the image that a pull's two parameters name. Without a tag an engine
// would fetch all of them.
func parsePull(name, tag string) (image, error) {
	switch {
	case tag == "":
		return parseImage(name)
	case digestForm.MatchString(tag):
		return parseImage(name + "@" + tag)
	}
	return parseImage(name + ":" + tag)
}

var digestForm = regexp.MustCompile(`^[a-z0-9]+:[0-9a-f]+$`)
