package baseline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
)

// A program holds each new run of an agent against an older one. An agent does so by
// itself if its Config.Remarks is the file's method.
func ExampleFile_Remarks() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ended := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for id, tps := range map[string]float64{"old": 2500, "new": 2000} {
		if err := (resultstest.Kept{ID: id, Ended: ended, Data: resultstest.Throughput(tps)}).Write(dir); err != nil {
			fmt.Println(err)
		}
	}
	store := results.Open(dir)
	file := baseline.Of(store)
	found, err := store.Find(context.Background(), "old")
	if err != nil {
		fmt.Println(err)
		return
	}
	runs, err := store.LoadAll(context.Background(), found)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := file.Pin(runs); err != nil {
		fmt.Println(err)
	}
	said, err := file.Remarks(context.Background(), filepath.Join(dir, "jobs", "new"))
	fmt.Println(said[0][:67], err)
	// Output: Baseline of 2026-11-29: throughput.avg_tps is 2000, 20% below 2500. <nil>
}
