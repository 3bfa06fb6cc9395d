package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	t.Parallel()
	run := `{"Action":"build-output","ImportPath":"m/c","Output":"c.go:1: broken\n"}
not JSON
{"Action":"run","Package":"m/a","Test":"TestSlow"}
{"Action":"output","Package":"m/a","Test":"TestSlow","Output":"=== RUN   TestSlow\n"}
{"Action":"pass","Package":"m/a","Test":"TestSlow","Elapsed":2.5}
{"Action":"output","Package":"m/a","Test":"TestNoEngine","Output":"=== RUN   TestNoEngine\n"}
{"Action":"output","Package":"m/a","Test":"TestNoEngine","Output":"    a_test.go:12: no Docker Engine: refused\n"}
{"Action":"skip","Package":"m/a","Test":"TestNoEngine","Elapsed":0.1}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.1s\n"}
{"Action":"pass","Package":"m/a","Elapsed":0.1}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"    b_test.go:3: want 1\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad","Elapsed":0.2}
{"Action":"output","Package":"m/b","Test":"TestHangs","Output":"=== RUN   TestHangs\n"}
{"Action":"output","Package":"m/b","Test":"TestHangs","Output":"panic: test timed out after 15m0s\n"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b\t0.1s\n"}
{"Action":"fail","Package":"m/b","Elapsed":0.1}`
	var out strings.Builder
	failed, err := report(strings.NewReader(run), &out)
	require.NoError(t, err)
	require.True(t, failed)
	require.Equal(t, "c.go:1: broken\nnot JSON\nok  \tm/a\t0.1s\n    b_test.go:3: want 1\nFAIL\tm/b\t0.1s\n"+
		"TestHangs has not ended\npanic: test timed out after 15m0s\n"+
		"\n1 tests skipped\n  a TestNoEngine: no Docker Engine: refused\n"+
		"slowest tests\n      2.5s  a TestSlow\n     200ms  b TestBad\n     100ms  a TestNoEngine\n", out.String())

	out.Reset()
	failed, err = report(strings.NewReader(""), &out)
	require.NoError(t, err)
	require.False(t, failed)
}
