package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// documents writes manual pages, completions and the changelog.
func (r *release) documents() error {
	host := filepath.Join(r.work, "host", "kitt-agent")
	err := r.do([]string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-o", host,
		"-ldflags", "-X main.version="+r.version+" -X main.commit="+r.commit, "./cmd/kitt-agent")
	if err != nil {
		return err
	}
	if err := r.manual(host); err != nil {
		return err
	}
	if err := r.changelog(); err != nil {
		return err
	}
	for shell, name := range map[string]string{"bash": "kitt-agent", "zsh": "_kitt-agent", "fish": "kitt-agent.fish"} {
		text, err := r.output(host, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(r.work, shell), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.work, shell, name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manual writes the manual pages, compressed as packages have them.
func (r *release) manual(host string) error {
	dir := filepath.Join(r.work, "man")
	if err := r.do(nil, host, "man", dir); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man?", "*"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		if err := compressFile(page, page+".gz"); err != nil {
			return err
		}
		if err := os.Remove(page); err != nil {
			return err
		}
	}
	return nil
}

func compressFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	packed, err := compress(text)
	if err != nil {
		return err
	}
	return os.WriteFile(to, packed, 0o644)
}

// changelog writes CHANGELOG.md as packages have it, and the packages' own
// changelog as nfpm reads it (github.com/goreleaser/chglog).
func (r *release) changelog() error {
	if err := compressFile("CHANGELOG.md", filepath.Join(r.work, "changelog.gz")); err != nil {
		return err
	}
	entry := fmt.Sprintf(`- semver: %s
  date: %s
  packager: The kitt-agent authors <kitt-agent@users.noreply.github.com>
  deb: {urgency: medium, distributions: [stable]}
  changes:
  - {commit: %s, note: "Release %s; the changes are in changelog.gz."}
`, strings.TrimPrefix(r.version, "v"), r.date.Format(time.RFC3339), r.commit, r.version)
	return os.WriteFile(filepath.Join(r.work, "changelog.yaml"), []byte(entry), 0o644)
}
