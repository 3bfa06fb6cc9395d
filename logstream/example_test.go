package logstream_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
)

// A log makes lines of pieces; a reader gets them as they come.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	log, err := logstream.Open(filepath.Join(dir, "log"), logstream.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	log.Append([]byte("Loading mo"), time.Now(), logstream.Position{})
	log.Append([]byte("del\nDone\n"), time.Now(), logstream.Position{Byte: 10})

	records, err := log.Reader(0).Next(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range records {
		fmt.Println(r.Seq, r.Text)
	}
	// Output:
	// 0 Loading model
	// 1 Done
}
