package storage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/storage"
)

// A job takes a lease on a local copy for as long as it runs.
func ExampleLocal_Acquire() {
	top, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(top)
	share, models := filepath.Join(top, "share"), filepath.Join(top, "models")
	_ = os.MkdirAll(filepath.Join(share, "org/model"), 0o755)
	_ = os.WriteFile(filepath.Join(share, "org/model/config.json"), []byte("{}"), 0o644)

	s, err := storage.New(storage.Config{Settings: storage.Settings{
		Dir:         models,
		ShareMount:  share,
		AutoCleanup: true,
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	lease, err := s.Acquire(context.Background(), storage.Request{Model: "org/model", Holder: "job-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	rel, _ := filepath.Rel(top, lease.Path)
	fmt.Println(rel, lease.Origin)

	fmt.Println(lease.Release()) // the copy is removed after its last lease
	_, err = os.Stat(lease.Path)
	fmt.Println(os.IsNotExist(err))
	// Output:
	// models/org/model copied
	// <nil>
	// true
}
