package socketproxy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// An image is a parsed name of an image.
type image struct {
	name    string // as docker shows it, such as vllm/vllm-openai
	version string // tag or digest
	digest  bool   // whether version is a digest
}

// String returns the image as docker shows it.
func (i image) String() string {
	if i.digest {
		return i.name + "@" + i.version
	}
	return i.name + ":" + i.version
}

// parseImage parses the name of an image. An ID is no name: it would stand for any
// image on the machine.
func parseImage(text string) (image, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return image{}, invalid("%.200q is not the name of an image: %v", text, err)
	}
	i := image{name: reference.FamiliarName(named), version: "latest"}
	if tagged, ok := named.(reference.Tagged); ok {
		i.version = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		i.version, i.digest = digested.Digest().String(), true
	}
	return i, nil
}

// parseEntry parses an entry of Policy.Images. Its version is empty if any will do.
func parseEntry(text string) (image, error) {
	i := image{name: text}
	if name, digest, ok := strings.Cut(text, "@"); ok {
		i = image{name, digest, true}
	} else if colon := strings.LastIndexByte(text, ':'); colon > strings.LastIndexByte(text, '/') {
		i = image{name: text[:colon], version: text[colon+1:]}
	}
	_, nameErr := path.Match(i.name, "")
	_, versionErr := path.Match(i.version, "")
	if i.name == "" || nameErr != nil || versionErr != nil {
		return image{}, fmt.Errorf("%q is neither the name of an image nor a pattern", text)
	}
	if named, err := reference.ParseNormalizedNamed(i.name); err == nil {
		i.name = reference.FamiliarName(named)
	}
	return i, nil
}

// allowedImage returns the image of that name if the policy has it.
func (p Policy) allowedImage(text string) (image, error) {
	i, err := parseImage(text)
	if err != nil {
		return image{}, err
	}
	if !slices.ContainsFunc(p.Images, i.matches) {
		return image{}, refuse("the image %s is not one of policy.engine_images in agent.yaml: %s", i, strings.Join(p.Images, ", "))
	}
	return i, nil
}

// matches reports whether an entry of Policy.Images allows the image.
func (i image) matches(entry string) bool {
	e, err := parseEntry(entry)
	if err != nil {
		return false
	}
	name, _ := path.Match(e.name, i.name)
	if e.version == "" {
		return name
	}
	version, _ := path.Match(e.version, i.version)
	return name && version && e.digest == i.digest
}

// local reports whether KITT builds the image itself: no registry has it, or somebody
// else's of the same name.
func (i image) local() bool { return strings.HasPrefix(i.name, "kitt/") }

// refuseBuild is the answer where an image would have to be built.
func refuseBuild(name string) error {
	return refuse("a benchmark may not build or replace images; build it on this machine with: docker build -t %s, or kitt engines setup", name)
}

// printableName returns the name of an image as a command line may have it.
func printableName(text string) string {
	if i, err := parseImage(text); err == nil {
		return i.String()
	}
	return "NAME"
}
