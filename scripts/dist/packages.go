package main

import (
	"bytes"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

// nfpm writes deb and rpm packages.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0"

// packaged describes a package to nfpm. Whoever installs it decides with
// `kitt-agent service install` whether the agent is a service of systemd's.
var packaged = template.Must(template.New("nfpm").Parse(`name: kitt-agent
arch: {{.Arch}}
platform: linux
version: {{.Version}}
version_schema: semver
maintainer: The kitt-agent authors <maintainers@kitt-agent.invalid>
description: Runs benchmark jobs of a KITT server on this machine.
homepage: https://github.com/kirizan/kitt-agent
license: Apache-2.0
section: utils
priority: optional
mtime: {{.Date}}
rpm:
  buildhost: localhost
  group: Applications/System
deb:
  compression: gzip
overrides:
  deb:
    depends: ["libc6 (>= {{.Glibc}})"]
  rpm:
    depends: ["glibc >= {{.Glibc}}"]
contents:
- {src: {{.Work}}/linux_{{.Arch}}_nvml/kitt-agent, dst: /usr/bin/kitt-agent, file_info: {mode: 0755, mtime: {{.Date}}}}
- {src: {{.Work}}/man/man1/, dst: /usr/share/man/man1/, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/man/man5/, dst: /usr/share/man/man5/, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/bash/kitt-agent, dst: /usr/share/bash-completion/completions/kitt-agent, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/zsh/_kitt-agent, dst: /usr/share/zsh/vendor-completions/_kitt-agent, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/fish/kitt-agent.fish, dst: /usr/share/fish/vendor_completions.d/kitt-agent.fish, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: LICENSE, dst: /usr/share/doc/kitt-agent/copyright, file_info: {mode: 0644, mtime: {{.Date}}}}
`))

// systemPackages writes the deb and the rpm of one architecture.
func (r *release) systemPackages(arch string) error {
	var text bytes.Buffer
	err := packaged.Execute(&text, map[string]string{
		"Arch": arch, "Version": r.version, "Date": r.date.Format(time.RFC3339), "Work": r.work, "Glibc": r.glibc[arch],
	})
	if err != nil {
		return err
	}
	config := filepath.Join(r.work, "nfpm-"+arch+".yaml")
	if err := os.WriteFile(config, text.Bytes(), 0o644); err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		target := filepath.Join(r.dir, "kitt-agent_"+r.version+"_linux_"+arch+"."+format)
		if err := r.do(nil, "go", "run", nfpm, "package", "--config", config, "--packager", format, "--target", target); err != nil {
			return err
		}
	}
	return nil
}
