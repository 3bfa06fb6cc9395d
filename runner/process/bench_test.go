package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// flood prints 100,000 lines of 100 bytes.
const flood = "fake:lines=100000,width=100"

// BenchmarkFlood compares a benchmark that prints as fast as it can through us,
// from the start of the process to its recorded end, with the same one writing
// to a file of its own.
func BenchmarkFlood(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		b.SetBytes(100 * 100_000)
		for b.Loop() {
			out, err := os.Create(filepath.Join(b.TempDir(), "output"))
			if err != nil {
				b.Fatal(err)
			}
			cmd := exec.Command(kitt, newJob(b, flood).Arguments()...)
			cmd.Stdout = out
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			out.Close()
		}
	})
	b.Run("run", func(b *testing.B) {
		b.SetBytes(100 * 100_000)
		r := supervised(b)
		var child float64
		for b.Loop() {
			var out runnertest.Recorder
			result, err := r.Run(b.Context(), newJob(b, flood), &out)
			if err != nil {
				b.Fatal(err)
			}
			if n := len(out.Text()); n != 100*100_000 {
				b.Fatalf("%d bytes came through", n)
			}
			child += result.Ended.Sub(result.Started).Seconds()
		}
		b.ReportMetric(child*1e9/float64(b.N), "ns-child/op")
	})
}
