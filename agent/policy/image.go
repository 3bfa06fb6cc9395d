package policy

import (
	"errors"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/rules"
)

// ImageRule is the rule for an entry of Policy.Images: an image reference in which a
// * stands for any text.
func ImageRule(pattern string) error {
	if err := rules.Image(strings.ReplaceAll(pattern, "*", "x")); err != nil {
		return errors.New("it is no image reference, nor one with a * in it")
	}
	return nil
}

// CheckImage returns why the server may not choose an image.
func (p Policy) CheckImage(image string) error {
	if p.Images == nil || p.Machine.Image != "" && repository(p.Machine.Image) == repository(image) {
		return nil
	}
	for _, pattern := range p.Images {
		if matchImage(pattern, image) {
			return nil
		}
	}
	return refuse("images", append(slices.Clone(p.Images), image), "it is not one of the images that the server may choose: %s", strings.Join(p.Images, ", "))
}

// matchImage reports whether pattern allows image. Without a tag or digest the
// pattern is compared with the repository alone: a tag may be any text.
func matchImage(pattern, image string) bool {
	if repository(pattern) == pattern {
		return glob(pattern, repository(image))
	}
	if repository(image) == image {
		image += ":latest"
	}
	return glob(pattern, image)
}

// repository returns an image reference without tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i]
	}
	return image
}

// glob reports whether text is pattern with any texts in place of its stars.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}
