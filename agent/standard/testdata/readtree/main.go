// Command readtree plays an engine that loads a model: it prints the size of each
// file below a directory, and fails if one cannot be read.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

func main() {
	err := filepath.WalkDir(os.Args[1], func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(at)
		fmt.Println(at, len(data))
		return err
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
