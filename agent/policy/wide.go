package policy

import (
	"fmt"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// systemDirs hold what the machine runs and how it is set up.
var systemDirs = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr", "/var/spool"}

// Wide returns a sentence for each limit that allows far more than models take, so
// that the machine's owner can narrow it. It looks at no file.
func (p Policy) Wide() []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, dir := range p.expandAll(p.StorageDirs) {
		if what := p.sensitive(dir); what != "" {
			say("policy.storage_dirs has %s: the server can have any file of a share written into %s", dir, what)
		}
	}
	if own := p.Machine.StorageDir; own != "" {
		if what := p.sensitive(p.expand(own)); what != "" {
			say("model_storage_dir is %s: the server can have any file of a share written into %s", own, what)
		}
	}
	for _, dir := range p.expandAll(p.ModelDirs) {
		if what := p.sensitive(dir); what != "" {
			say("policy.model_dirs has %s: the server can have any file in %s given to a benchmark", dir, what)
		}
	}
	if own := p.Machine.ShareMount; own != "" {
		if what := p.sensitive(p.expand(own)); what != "" {
			say("model_share_mount is %s: the server can have any file in %s given to a benchmark", own, what)
		}
	}
	for _, pattern := range p.Images {
		if strings.Trim(pattern, "*") == "" {
			say("policy.images has %s: the server can run every image on this machine", pattern)
		}
	}
	return all
}

// sensitive returns what a directory that the owner lists holds besides models, or an
// empty text. One that ends in a slash is limited to new and empty directories.
func (p Policy) sensitive(dir string) string {
	if strings.HasSuffix(dir, "/") {
		return ""
	}
	for _, system := range systemDirs {
		if base.Within(system, dir) || base.Within(dir, system) {
			return "directories of the system"
		}
	}
	for _, home := range p.homes() {
		if base.Within(dir, home) {
			return "the home directory of the agent's user"
		}
	}
	if err := p.checkAgentFiles(dir); err != nil {
		return "the agent's own directory"
	}
	return ""
}
