package engine

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
)

// laterPart is the name of a part of a split GGUF file that is not its first.
var laterPart = regexp.MustCompile(`-(\d{5})-of-\d{5}\.gguf$`)

// ModelPath returns what to give the engine for a model on local disk: of a directory,
// an engine that reads single files gets the one that it can read.
func (s Spec) ModelPath(path string) (string, error) {
	info, err := os.Stat(path)
	if s.ModelSuffix == "" || err != nil || !info.IsDir() {
		return path, nil // an identifier, or a file: the engine judges it
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		name := e.Name()
		if m := laterPart.FindStringSubmatch(name); m != nil && m[1] != "00001" {
			continue
		}
		if strings.HasSuffix(name, s.ModelSuffix) && !strings.Contains(name, "mmproj") {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 1:
		return filepath.Join(path, found[0]), nil
	case 0:
		return "", fault.New(ClassConfig, "choose another model, or an engine that reads it", "%s has no %s file for %s", path, s.ModelSuffix, s.Name)
	}
	return "", fault.New(ClassConfig, "name one of them as model_path", "%s has several files for %s: %s", path, s.Name, base.Names(found[:min(len(found), 8)]...))
}
