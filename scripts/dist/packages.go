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

// packaged describes a package to nfpm. The unit is installed and not enabled: the
// agent needs settings first.
var packaged = template.Must(template.New("nfpm").Parse(`name: kitt-agent
arch: {{.Arch}}
platform: linux
version: {{.Version}}
version_schema: semver
release: 1
maintainer: The kitt-agent authors <kitt-agent@users.noreply.github.com>
description: |-
  benchmark agent of a KITT server
  kitt-agent runs on a GPU machine. It takes benchmark jobs from a KITT server,
  copies the models that they need from a share to local disk, runs them in
  containers or as processes, and reports logs and results to the server.
homepage: https://github.com/kirizan/kitt-agent
{{if eq .Format "rpm"}}license: Apache-2.0
{{end -}}
section: utils
priority: optional
mtime: {{.Date}}
changelog: {{.Work}}/changelog.yaml
rpm:
  buildhost: localhost
  group: Applications/System
deb:
  compression: gzip
overrides:
  deb:
    depends: ["libc6 (>= {{.Glibc}})", "adduser"]
    scripts: {postinstall: packaging/deb/postinst, preremove: packaging/deb/prerm, postremove: packaging/deb/postrm}
  rpm:
    depends: ["glibc >= {{.Glibc}}", "shadow-utils"]
    scripts: {postinstall: packaging/rpm/post.sh, preremove: packaging/rpm/preun.sh}
contents:
- {src: {{.Work}}/linux_{{.Arch}}_nvml/kitt-agent, dst: /usr/bin/kitt-agent, file_info: {mode: 0755, mtime: {{.Date}}}}
- {src: packaging/kitt-agent.service, dst: /usr/lib/systemd/system/kitt-agent.service, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/man/man1/, dst: /usr/share/man/man1/, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/man/man5/, dst: /usr/share/man/man5/, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/bash/kitt-agent, dst: /usr/share/bash-completion/completions/kitt-agent, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/zsh/_kitt-agent, dst: /usr/share/zsh/vendor-completions/_kitt-agent, packager: deb, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/zsh/_kitt-agent, dst: /usr/share/zsh/site-functions/_kitt-agent, packager: rpm, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/fish/kitt-agent.fish, dst: /usr/share/fish/vendor_completions.d/kitt-agent.fish, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/sbom_{{.Arch}}.json, dst: /usr/share/doc/kitt-agent/sbom.cdx.json, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: {{.Work}}/changelog.gz, dst: /usr/share/doc/kitt-agent/changelog.gz, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: packaging/copyright, dst: /usr/share/doc/kitt-agent/copyright, packager: deb, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: packaging/lintian-overrides, dst: /usr/share/lintian/overrides/kitt-agent, packager: deb, file_info: {mode: 0644, mtime: {{.Date}}}}
- {src: LICENSE, dst: /usr/share/licenses/kitt-agent/LICENSE, packager: rpm, file_info: {mode: 0644, mtime: {{.Date}}}}
`))

// systemPackages writes the deb and the rpm of one architecture.
func (r *release) systemPackages(arch string) error {
	for _, format := range []string{"deb", "rpm"} {
		var text bytes.Buffer
		err := packaged.Execute(&text, map[string]string{
			"Format": format, "Arch": arch, "Version": r.version, "Date": r.date.Format(time.RFC3339), "Work": r.work, "Glibc": r.glibc[arch],
		})
		if err != nil {
			return err
		}
		config := filepath.Join(r.work, "nfpm-"+arch+"-"+format+".yaml")
		if err := os.WriteFile(config, text.Bytes(), 0o644); err != nil {
			return err
		}
		target := filepath.Join(r.dir, "kitt-agent_"+r.version+"_linux_"+arch+"."+format)
		if err := r.do(nil, "go", "run", nfpm, "package", "--config", config, "--packager", format, "--target", target); err != nil {
			return err
		}
	}
	return nil
}
