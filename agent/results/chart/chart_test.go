package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/chart"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// load writes one run and loads it.
func load(t *testing.T, k resultstest.Kept) *results.Run {
	t.Helper()
	dir := t.TempDir()
	k.ID, k.Ended, k.Data = "a", noon.Add(5*time.Minute), resultstest.Throughput(2500)
	require.NoError(t, k.Write(dir))
	s := results.Open(dir)
	runs, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, runs[0].Problems)
	run, err := s.Load(runs[0])
	require.NoError(t, err)
	return run
}

// hotRun is a run of two GPUs of which one is slowed down, with a gap, a foreign process
// and a neighbour.
func hotRun(t *testing.T) *results.Run {
	t.Helper()
	ended := noon.Add(5 * time.Minute)
	k := resultstest.Kept{Model: `<script>alert("x")</script>`, Report: resultstest.Report(noon, ended, 1965, 7*time.Second)}
	for i, s := range resultstest.Samples(noon, ended, 1965) {
		second := s.GPUs[0]
		second.Index, second.TemperatureC = 1, new(*second.TemperatureC+8)
		switch {
		case i >= 130 && i < 150:
			second.ThrottleReasons, second.SMClockMHz = []string{"hw_thermal_slowdown", "hw_slowdown"}, new(990)
		case i >= 100 && i < 130:
			second.ThrottleReasons, second.SMClockMHz = []string{"sw_thermal_slowdown"}, new(1700)
		case i >= 60:
			second.ThrottleReasons = []string{"sw_power_cap"}
		}
		s.GPUs = append(s.GPUs, second)
		if i < 180 || i > 200 {
			k.Samples = append(k.Samples, s)
		}
	}
	k.Report.Foreign = []integrity.ForeignProcess{{GPU: 1, PID: 4711, Command: "python3 <b>", Owner: "eve\x1b[2J", First: noon.Add(90 * time.Second), Last: noon.Add(150 * time.Second), MaxSMPct: new(3.5)}}
	k.Report.Neighbours = []integrity.Neighbour{{Name: "job 1111222233334444", First: noon.Add(200 * time.Second), Last: noon.Add(280 * time.Second)}}
	return load(t, k)
}

// elements parses an SVG and counts its elements. It fails for what a browser would run
// or fetch.
func elements(t *testing.T, svg []byte) (count map[string]int, text string) {
	t.Helper()
	count = map[string]int{}
	var all strings.Builder
	for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return count, all.String()
		}
		require.NoError(t, err, string(svg))
		switch e := token.(type) {
		case xml.StartElement:
			count[e.Name.Local]++
			require.Contains(t, []string{"svg", "title", "rect", "text", "line", "polyline", "polygon", "circle"}, e.Name.Local)
			for _, attr := range e.Attr {
				require.False(t, strings.HasPrefix(attr.Name.Local, "on") || strings.Contains(attr.Name.Local, "href"), attr.Name.Local)
				require.NotContains(t, attr.Value, "NaN")
				require.NotContains(t, attr.Value, "%!")
			}
		case xml.CharData:
			all.Write(e)
			all.WriteByte('\n')
		}
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	run := hotRun(t)
	var svg bytes.Buffer
	require.NoError(t, chart.SVG(&svg, run))
	if dir := os.Getenv("KITT_SCREENSHOTS"); dir != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.svg"), svg.Bytes(), 0o600))
	}
	count, text := elements(t, svg.Bytes())
	require.NotContains(t, svg.String(), "<script")
	require.NotContains(t, svg.String(), "<b>")
	require.Contains(t, text, `<script>alert("x")</script>`, "it is shown as it is called")
	require.Contains(t, text, "Machine: INVALID - hardware thermal slowdown")
	require.Contains(t, text, "process 4711 (python3 <b> of eve")
	require.Contains(t, text, "job 1111222233334444")
	require.Contains(t, text, "measure")
	require.Contains(t, text, "GPU 1")
	require.Equal(t, 3*2*2, count["polyline"], "three quantities of two GPUs, before and after the gap")
	require.NotContains(t, text, "\x1b")
}

func TestSparklines(t *testing.T) {
	t.Parallel()
	lines, err := chart.Sparklines(hotRun(t), 50)
	require.NoError(t, err)
	var all []string
	for _, l := range lines {
		all = append(all, fmt.Sprintf("%-12s|%s| %s", l.Label, l.Text, l.Range))
	}
	require.Equal(t, []string{
		"SM clock    |▁▁▁▁▂███████████▇▇▇▇▇▅▄▄▄█████   ███████████▇▁▁▁▁▁| 345 to 1968 MHz",
		"power       |▁▁▁▁▂█████████████████████████   ███████████▇▁▁▁▁▁| 160 to 1200 W",
		"temperature |▁▁▁▁▂▂▂▂▂▂▂▃▃▃▃▃▃▃▄▄▄▄▄▄▄▅▅▅▅▅   ▆▆▆▆▆▆▇▇▇▇▇▇▇████| 48 to 73 °C",
		"slowed down |.........pppppppTTTTTHHHHppppp   ppppppppppppppppp| p: power cap, T: thermal slowdown by the driver, H: hardware slowdown",
	}, all)
}

func TestNothingToDraw(t *testing.T) {
	t.Parallel()
	for _, samples := range [][]integrity.Sample{nil, {{Time: noon}, {Time: noon.Add(time.Second)}}} { // none, or of a host without GPUs
		run := load(t, resultstest.Kept{Samples: samples})
		require.ErrorIs(t, chart.SVG(io.Discard, run), chart.ErrNoSamples)
		_, err := chart.Sparklines(run, 50)
		require.ErrorIs(t, err, chart.ErrNoSamples)
	}
}

// Odd samples give a picture all the same.
func TestOddSamples(t *testing.T) {
	t.Parallel()
	for name, samples := range map[string][]integrity.Sample{
		"one":          {{Time: noon, GPUs: []hwdetect.GPUTelemetry{{}}}},
		"huge":         {{Time: noon, GPUs: []hwdetect.GPUTelemetry{{PowerW: new(1e300), TemperatureC: new(-1e9), SMClockMHz: new(1 << 40)}}}},
		"backwards":    {{Time: noon.Add(time.Hour), GPUs: []hwdetect.GPUTelemetry{{PowerW: new(1.0)}}}, {Time: noon, GPUs: []hwdetect.GPUTelemetry{{PowerW: new(2.0)}}}},
		"constant":     {{Time: noon, GPUs: []hwdetect.GPUTelemetry{{PowerW: new(0.0)}}}, {Time: noon.Add(time.Second), GPUs: []hwdetect.GPUTelemetry{{PowerW: new(0.0)}}}},
		"a long pause": {{Time: noon.Add(-80 * 24 * time.Hour), GPUs: []hwdetect.GPUTelemetry{{PowerW: new(1.0)}}}, {Time: noon, GPUs: []hwdetect.GPUTelemetry{{PowerW: new(2.0)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := load(t, resultstest.Kept{Samples: samples})
			var svg bytes.Buffer
			require.NoError(t, chart.SVG(&svg, run))
			elements(t, svg.Bytes())
			_, err := chart.Sparklines(run, 50)
			require.NoError(t, err)
		})
	}
	run := load(t, resultstest.Kept{Samples: []integrity.Sample{{Time: noon.Add(-400 * 24 * time.Hour), GPUs: []hwdetect.GPUTelemetry{{}}}, {Time: noon}}})
	require.ErrorContains(t, chart.SVG(io.Discard, run), "more than 90 days")
}

// Many GPUs are bounded, and so is the size of a picture of a long run.
func TestManyGPUs(t *testing.T) {
	t.Parallel()
	var all []integrity.Sample
	for i := range 3000 {
		s := integrity.Sample{Time: noon.Add(time.Duration(i) * time.Second)}
		for g := range 20 {
			s.GPUs = append(s.GPUs, hwdetect.GPUTelemetry{Index: g, PowerW: new(float64(i%100 + g)), SMClockMHz: new(i % 2000), TemperatureC: new(float64(i % 90))})
		}
		all = append(all, s)
	}
	run := load(t, resultstest.Kept{Samples: all})
	var svg bytes.Buffer
	require.NoError(t, chart.SVG(&svg, run))
	_, text := elements(t, svg.Bytes())
	require.Contains(t, text, "and 4 more GPUs")
	require.Less(t, svg.Len(), 4<<20)
}
