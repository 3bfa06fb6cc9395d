package chart_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/chart"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
)

// A program draws the newest run of an agent.
func Example() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	begun := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ended := begun.Add(time.Minute)
	kept := resultstest.Kept{ID: "a1", Ended: ended, Report: resultstest.Report(begun, ended, 1965, 0), Samples: resultstest.Samples(begun, ended, 1965)}
	if err := kept.Write(dir); err != nil {
		fmt.Println(err)
		return
	}

	store := results.Open(dir)
	runs, err := store.List(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := store.Load(runs[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := os.Create(filepath.Join(dir, "run.svg"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(chart.SVG(file, run), file.Close())
	lines, err := chart.Sparklines(run, 20)
	for _, l := range lines[:3] {
		fmt.Printf("%-12s%s  %s\n", l.Label, l.Text, l.Range)
	}
	fmt.Println(err)
	// Output:
	// <nil> <nil>
	// SM clock    ▁▃███████████████▆▁▁  345 to 1968 MHz
	// power       ▁▃███████████████▆▁▁  80 to 600 W
	// temperature ▁▁▂▂▃▃▃▄▄▄▅▅▅▆▆▇▇▇██  41 to 64 °C
	// <nil>
}
