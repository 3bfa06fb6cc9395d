package resultstest_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
)

// A test of a program that reads results needs no agent.
func ExampleKept_Write() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ended := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	kept := resultstest.Kept{ID: "a1", Ended: ended, Data: resultstest.Throughput(2500), Report: resultstest.Report(ended.Add(-time.Minute), ended, 1965, 0)}
	if err := kept.Write(dir); err != nil {
		fmt.Println(err)
		return
	}
	runs, err := results.Open(dir).List(context.Background())
	fmt.Println(runs[0].ID, runs[0].Verdict, runs[0].Headline.Value, err)
	// Output: a1 valid 2500 <nil>
}
