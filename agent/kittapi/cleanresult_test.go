package kittapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// breach returns the rule for result data that body breaks, written from the
// protocol's table and from nothing else: body is what would be sent.
func breach(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var data map[string]any
	if err := dec.Decode(&data); err != nil {
		return err
	}
	for _, key := range []string{"model", "engine", "suite_name", "timestamp", "kitt_version"} {
		if err := textOrAbsent(data, key); err != nil {
			return err
		}
	}
	for _, key := range []string{"total_benchmarks", "passed_count", "failed_count", "total_time_seconds"} {
		if v, ok := data[key]; ok && !fits64(v) {
			return fmt.Errorf("%s is %v", key, v)
		}
	}
	if results, ok := data["results"]; ok {
		list, ok := results.([]any)
		if !ok {
			return fmt.Errorf("results is %v", results)
		}
		for _, element := range list {
			if err := benchBreach(element); err != nil {
				return err
			}
		}
	}
	return systemBreach(data["system_info"])
}

func textOrAbsent(m map[string]any, key string) error {
	if v, ok := m[key]; ok {
		if _, ok := v.(string); !ok {
			return fmt.Errorf("%s is %v", key, v)
		}
	}
	return nil
}

// fits64 reports whether v is a number that SQLite stores: any float, or an
// integer of 64 bits.
func fits64(v any) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	if strings.ContainsAny(n.String(), ".eE") {
		_, err := n.Float64()
		return err == nil
	}
	_, err := n.Int64()
	return err == nil
}

func benchBreach(element any) error {
	bench, ok := element.(map[string]any)
	if !ok {
		return fmt.Errorf("an element of results is %v", element)
	}
	for _, key := range []string{"test_name", "test_version", "timestamp"} {
		if err := textOrAbsent(bench, key); err != nil {
			return err
		}
	}
	if v, ok := bench["run_number"]; ok {
		n, ok := v.(json.Number)
		if !ok || !fits64(v) {
			return fmt.Errorf("run_number is %v", v)
		}
		if r, ok := new(big.Rat).SetString(n.String()); !ok || !r.IsInt() {
			return fmt.Errorf("run_number is %v", v)
		}
	}
	v, ok := bench["metrics"]
	if !ok {
		return nil
	}
	metrics, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("metrics is %v", v)
	}
	for name, value := range metrics {
		if n, ok := value.(json.Number); ok {
			if _, err := n.Float64(); err != nil {
				return fmt.Errorf("metric %s is %v", name, value)
			}
		}
	}
	return nil
}

func systemBreach(v any) error {
	if v == nil {
		return nil
	}
	system, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("system_info is %v", v)
	}
	plain := func(m map[string]any, keys ...string) error {
		for _, key := range keys {
			switch v := m[key].(type) {
			case nil, string, bool:
			default:
				if !fits64(v) {
					return fmt.Errorf("%s is %v", key, v)
				}
			}
		}
		return nil
	}
	if err := plain(system, "ram_gb", "environment_type", "fingerprint"); err != nil {
		return err
	}
	for part, keys := range map[string][]string{"gpu": {"model", "vram_gb", "count"}, "cpu": {"model", "cores"}} {
		if v := system[part]; v != nil {
			object, ok := v.(map[string]any)
			if !ok {
				return fmt.Errorf("%s is %v", part, v)
			}
			if err := plain(object, keys...); err != nil {
				return err
			}
		}
	}
	return nil
}

// keeps checks everything that CleanResult promises about data.
func keeps(t interface {
	require.TestingT
	Helper()
}, data map[string]any) {
	t.Helper()
	clean, _ := kittapi.CleanResult(data)
	body, err := json.Marshal(clean)
	require.NoError(t, err)
	if clean == nil {
		return
	}
	require.NotEmpty(t, clean)
	require.NoError(t, breach(body))
	again, notes := kittapi.CleanResult(clean)
	require.Empty(t, notes, "cleaning what is clean changes nothing")
	second, err := json.Marshal(again)
	require.NoError(t, err)
	require.Equal(t, string(body), string(second))
}

func TestCleanResult(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	type own struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	tests := []struct {
		name  string
		in    map[string]any
		want  string
		notes []string
	}{
		{"nil", nil, `null`, nil},
		{"empty", map[string]any{}, `null`, nil},
		{"null texts", map[string]any{"model": nil, "x": nil}, `{"x":null}`, []string{"model removed: it should be a text"}},
		{"numbers for texts", map[string]any{"model": 7.5, "engine": true, "timestamp": 3}, `{"engine":"true","model":"7.5","timestamp":"3"}`,
			[]string{"engine converted to a text", "model converted to a text", "timestamp converted to a text"}},
		{"object for a text", map[string]any{"engine": map[string]any{"a": 1}, "k": 1}, `{"k":1}`, []string{"engine removed"}},
		{"all dropped", map[string]any{"engine": nil}, `null`, []string{"engine removed"}},
		{"counts", map[string]any{"passed_count": nil, "failed_count": "1", "total_benchmarks": 1e19, "total_time_seconds": math.NaN(), "passed": nil},
			`{"passed":null}`, []string{"total_time_seconds set to null", "failed_count removed", "passed_count removed", "total_benchmarks removed", "total_time_seconds removed"}},
		{"good counts", map[string]any{"passed_count": 3, "total_time_seconds": 1e300, "failed_count": int64(math.MaxInt64)},
			`{"failed_count":9223372036854775807,"passed_count":3}`, []string{"total_time_seconds"}},
		{"nil slice", map[string]any{"results": []any(nil), "x": 1}, `{"x":1}`, []string{"results removed: it should be a list"}},
		{"elements", map[string]any{"results": []any{nil, "x", []any{}, map[string]any{"test_name": "t"}}}, `{"results":[{"test_name":"t"}]}`,
			[]string{"results[0] removed", "results[1] removed", "results[2] removed"}},
		{"metrics", map[string]any{"results": []any{
			map[string]any{"metrics": nil}, map[string]any{"metrics": []any{}}, map[string]any{"metrics": map[string]any(nil)},
			map[string]any{"metrics": map[string]any{"a": math.Inf(1), "b": map[string]any{"c": math.NaN()}, "d": json.Number("1e400"), "e": uint64(math.MaxUint64)}},
		}}, `{"results":[{},{},{},{"metrics":{"a":null,"b":{"c":null},"d":null,"e":18446744073709551615}}]}`,
			[]string{"results[3].metrics.a set to null: +Inf", "results[3].metrics.b.c", "results[3].metrics.d", "results[0].metrics", "results[1].metrics", "results[2].metrics"}},
		{"run numbers", map[string]any{"results": []any{
			map[string]any{"run_number": 1.5}, map[string]any{"run_number": "1"}, map[string]any{"run_number": 2.0}, map[string]any{"run_number": true},
		}}, `{"results":[{},{},{"run_number":2},{}]}`, []string{"results[0].run_number", "results[1].run_number", "results[3].run_number"}},
		{"system null", map[string]any{"system_info": nil}, `{"system_info":null}`, nil},
		{"system text", map[string]any{"system_info": "x", "a": 1}, `{"a":1}`, []string{"system_info removed"}},
		{"system parts", map[string]any{"system_info": map[string]any{
			"gpu": map[string]any{"model": map[string]any{}, "vram_gb": 24, "compute_capability": []any{8, 9}}, "cpu": []any{}, "ram_gb": []any{1}, "fingerprint": nil,
		}}, `{"system_info":{"fingerprint":null,"gpu":{"compute_capability":[8,9],"vram_gb":24}}}`,
			[]string{"system_info.ram_gb", "system_info.gpu.model", "system_info.cpu"}},
		{"typed values", map[string]any{
			"results": []map[string]any{{"metrics": map[string]float64{"a": 1.5}, "errors": []string{"e"}, "warmup_times": []float64{math.NaN()}}},
			"own":     own{"x", 1}, "ptr": &own{"y", 2}, "time": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "bytes": []byte("ab"), "ints": map[int]int{1: 2},
		}, `{"bytes":"YWI=","ints":{"1":2},"own":{"n":1,"name":"x"},"ptr":{"n":2,"name":"y"},` +
			`"results":[{"errors":["e"],"metrics":{"a":1.5},"warmup_times":[null]}],"time":"2026-01-02T03:04:05Z"}`, []string{"warmup_times[0]"}},
		{"not JSON at all", map[string]any{"f": func() {}, "c": make(chan int)}, `{"c":null,"f":null}`, []string{"c set to null", "f set to null"}},
		{"bad UTF-8", map[string]any{"model": "a\xffb", "k\xff": "\xed\xa0\x80"}, "{\"k\uFFFD\":\"\uFFFD\",\"model\":\"a\uFFFDb\"}", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clean, notes := kittapi.CleanResult(tt.in)
			got, err := json.Marshal(clean)
			require.NoError(t, err)
			require.JSONEq(t, tt.want, string(got))
			require.Len(t, notes, len(tt.notes), "%q", notes)
			for i, want := range tt.notes {
				require.Contains(t, notes[i], want)
			}
			keeps(t, tt.in)
		})
	}
	clean, notes := kittapi.CleanResult(map[string]any{"deep": deep})
	require.NotNil(t, clean["deep"])
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "nested too deeply")
}

func TestCleanResultLeavesItsInputAlone(t *testing.T) {
	t.Parallel()
	in := map[string]any{"model": nil, "results": []any{nil, map[string]any{"metrics": nil, "run_number": "x"}}, "system_info": map[string]any{"gpu": 1}}
	before := fmt.Sprint(in)
	_, notes := kittapi.CleanResult(in)
	require.NotEmpty(t, notes)
	require.Equal(t, before, fmt.Sprint(in))
}

func TestNotesAreBounded(t *testing.T) {
	t.Parallel()
	results := make([]any, 10_000)
	_, notes := kittapi.CleanResult(map[string]any{"results": results})
	require.Len(t, notes, 51)
	require.Equal(t, "9950 more changes", notes[50])
}

// resultValue draws any value, of the kinds that break things.
func resultValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Float64().AsAny(), rapid.Int64().AsAny(), rapid.Uint64().AsAny(),
		rapid.SampledFrom([]any{math.NaN(), math.Inf(-1), 1e18, 1e19, 1e22, -9.3e18, float64(math.MaxInt64), "\xff", "\xed\xa0\x80", json.Number("1e400"),
			json.Number("123456789012345678901234567890"), json.Number(strings.Repeat("9", 400)), json.Number("bad"), []any(nil), map[string]any(nil)}),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	inner := resultValue(depth - 1)
	return rapid.OneOf(append(leaves,
		rapid.SliceOfN(inner, 0, 4).AsAny(),
		rapid.MapOfN(rapid.SampledFrom(keyNames), inner, 0, 5).AsAny(),
	)...)
}

var keyNames = []string{
	"model", "engine", "suite_name", "timestamp", "kitt_version", "passed", "total_benchmarks", "passed_count", "failed_count", "total_time_seconds",
	"results", "test_name", "test_version", "run_number", "metrics", "system_info", "gpu", "cpu", "vram_gb", "count", "cores", "ram_gb",
	"environment_type", "fingerprint", "x", "\xff",
}

// TestWhateverGoesIn checks that clean data breaks no rule and is accepted by the
// double, which lists what would have broken the real server.
func TestWhateverGoesIn(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	_, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	rapid.Check(t, func(r *rapid.T) {
		data := rapid.MapOfN(rapid.SampledFrom(keyNames), resultValue(4), 1, 12).Draw(r, "data")
		if rapid.Bool().Draw(r, "likely") {
			data["results"] = rapid.SliceOfN(rapid.MapOfN(rapid.SampledFrom(keyNames), resultValue(2), 0, 6).AsAny(), 0, 3).Draw(r, "results")
			data["system_info"] = rapid.MapOfN(rapid.SampledFrom(keyNames), resultValue(2), 0, 6).Draw(r, "system")
		}
		keeps(r, data)
		require.NoError(r, c.ReportResult(t.Context(), "gpu-01", reporter.Result{Data: data}))
		require.Empty(r, s.Breaches())
	})
}

// TestTheCheckOfTheRules checks breach, which other tests depend on.
func TestTheCheckOfTheRules(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		`{"model":null}`, `{"engine":{}}`, `{"timestamp":5}`, `{"passed_count":null}`, `{"failed_count":9223372036854775808}`, `{"total_benchmarks":"1"}`,
		`{"results":null}`, `{"results":{}}`, `{"results":[null]}`, `{"results":[{"test_name":null}]}`, `{"results":[{"run_number":1.5}]}`,
		`{"results":[{"run_number":null}]}`, `{"results":[{"metrics":null}]}`, `{"results":[{"metrics":[]}]}`, `{"results":[{"metrics":{"a":` + strings.Repeat("9", 400) + `}}]}`,
		`{"system_info":[]}`, `{"system_info":{"gpu":5}}`, `{"system_info":{"gpu":{"model":{}}}}`, `{"system_info":{"cpu":{"cores":9223372036854775808}}}`, `{"system_info":{"ram_gb":[]}}`,
		`{"a":NaN}`, "{\"a\":\"\xff\"}",
	} {
		require.Error(t, breach([]byte(bad)), bad)
	}
	for _, file := range []string{"testdata/metrics-quick.json", "testdata/metrics-performance.json"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, breach(text), file)
	}
}

func TestRealMetricsPassUnchanged(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"testdata/metrics-quick.json", "testdata/metrics-performance.json"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		data, err := runner.ReadMetrics(bytes.NewReader(text))
		require.NoError(t, err)
		var want map[string]any
		require.NoError(t, json.Unmarshal(text, &want))
		require.Equal(t, want, data)
		clean, notes := kittapi.CleanResult(data)
		require.Empty(t, notes)
		got, err := json.Marshal(clean)
		require.NoError(t, err)
		require.JSONEq(t, string(text), string(got))
	}
}

// FuzzMetrics reads any bytes as a metrics.json and checks that the result can be
// sent.
func FuzzMetrics(f *testing.F) {
	for _, file := range []string{"testdata/metrics-quick.json", "testdata/metrics-performance.json"} {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text)
	}
	for _, s := range []string{`{"results":[{"metrics":{"a":NaN,"b":-Infinity}},NaN]}`, `{"model":NaN}`, `{"system_info":{"gpu":{"model":1e400}}}`, `{"a":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := runner.ReadMetrics(bytes.NewReader(text))
		if err != nil {
			require.Nil(t, data)
			return
		}
		keeps(t, data)
	})
}

// FuzzCleanResult cleans any JSON object.
func FuzzCleanResult(f *testing.F) {
	for _, s := range []string{`{"results":null,"model":{}}`, `{"results":[{"metrics":[]},5]}`, `{"system_info":{"gpu":{"count":99999999999999999999}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, numbers := range []bool{false, true} {
			dec := json.NewDecoder(bytes.NewReader(text))
			if numbers {
				dec.UseNumber()
			}
			var data map[string]any
			if dec.Decode(&data) == nil {
				keeps(t, data)
			}
		}
	})
}

func BenchmarkCleanResult(b *testing.B) {
	f, err := os.Open("testdata/metrics-performance.json")
	require.NoError(b, err)
	defer f.Close()
	data, err := runner.ReadMetrics(f)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		kittapi.CleanResult(data)
	}
}
