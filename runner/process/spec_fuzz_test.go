package process

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"version":1,"job":"a","path":"/bin/kitt","args":["run"],"env":["A=b"],"supervised":true,"at":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":9}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, specFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, found, err := readSpec(dir)
		if found != (err == nil) {
			t.Fatalf("found %v with error %v", found, err)
		}
		if found && s.Version != version {
			t.Fatalf("version %d", s.Version)
		}
	})
}
