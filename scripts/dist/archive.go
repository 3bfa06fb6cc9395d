package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// A file is one file of an archive.
type file struct {
	name string
	mode int64
	data []byte
}

// archive returns a tar of files, which are root's and of the commit's date.
func (r *release) archive(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		head := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: r.date, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// compress returns data in gzip's form, without a name or date.
func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// update writes the package that `kitt-agent update` takes; its form is in the
// comment of package selfupdate.
func (r *release) update(key ed25519.PrivateKey) error {
	version := file{"VERSION", 0o644, []byte(r.version + "\n")}
	sums := fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(version.data), version.name)
	var built []file
	for _, p := range programs() {
		data, err := os.ReadFile(r.path(p))
		if err != nil {
			return err
		}
		f := file{p.name() + "/kitt-agent", 0o755, data}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(data), f.name)
		built = append(built, f)
	}
	files := []file{version, {"SHA256SUMS", 0o644, sums}}
	if key != nil {
		text := base64.StdEncoding.EncodeToString(ed25519.Sign(key, sums)) + "\n"
		files = append(files, file{"SHA256SUMS.sig", 0o644, []byte(text)})
	}
	data, err := r.archive(append(files, built...))
	if err != nil {
		return err
	}
	if data, err = compress(data); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "kitt-agent_"+r.version+".tar.gz"), data, 0o644)
}

// A descriptor points to a blob of an image (OCI image specification 1.1).
type descriptor struct {
	MediaType string            `json:"mediaType"`
	Digest    string            `json:"digest"`
	Size      int               `json:"size"`
	Platform  map[string]string `json:"platform,omitempty"`
}

const oci = "application/vnd.oci.image."

// image writes an image that holds the static program and nothing else: an OCI layout
// in a tar, which `docker load` of any age can read too.
func (r *release) image(arch string) error {
	static, err := os.ReadFile(r.path(program{arch: arch}))
	if err != nil {
		return err
	}
	layer, err := r.archive([]file{{"usr/bin/kitt-agent", 0o755, static}})
	if err != nil {
		return err
	}
	zipped, err := compress(layer)
	if err != nil {
		return err
	}
	var blobs []file
	put := func(kind string, data []byte) descriptor {
		digest := fmt.Sprintf("%x", sha256.Sum256(data))
		blobs = append(blobs, file{"blobs/sha256/" + digest, 0o644, data})
		return descriptor{MediaType: oci + kind, Digest: "sha256:" + digest, Size: len(data)}
	}
	platform := map[string]string{"os": "linux", "architecture": arch}
	layerAt := put("layer.v1.tar+gzip", zipped)
	config := put("config.v1+json", encode(map[string]any{
		"created": r.date, "os": "linux", "architecture": arch,
		"config": map[string]any{
			"Entrypoint": []string{"/usr/bin/kitt-agent"}, "Cmd": []string{"start"},
			"Env":    []string{"KITT_HOME=/var/lib/kitt", "PATH=/usr/bin:/bin"},
			"Labels": map[string]string{"org.opencontainers.image.version": r.version, "org.opencontainers.image.revision": r.commit},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	}))
	manifest := put("manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": []descriptor{layerAt},
	}))
	manifest.Platform = platform
	blob := func(d descriptor) string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }
	files := append(blobs,
		file{"index.json", 0o644, encode(map[string]any{"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": []descriptor{manifest}})},
		file{"manifest.json", 0o644, encode([]map[string]any{{
			"Config": blob(config), "RepoTags": []string{"kitt-agent:latest"}, "Layers": []string{blob(layerAt)},
		}})},
		file{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)})
	data, err := r.archive(files)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "kitt-agent_"+r.version+"_linux_"+arch+".oci.tar"), data, 0o644)
}

// encode returns v as JSON. What comes here can always be encoded.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
