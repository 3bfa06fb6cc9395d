// Package copybench compares a copy of a model with another program's, alternately
// and from a cold source, for benchmarks.
package copybench

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Sizes of the models. The defaults take seconds; scripts/bench-copy.sh measures
// models of full size.
var (
	mebibytes = flag.Int("storage.mib", 256, "size of large models in benchmarks, in MiB")
	files     = flag.Int("storage.files", 1000, "files of models of small files in benchmarks")
)

// A Model is a tree for benchmarks.
type Model struct {
	Name  string
	bytes int64
	files int
}

// Models makes models below dir: four shards with small files next to them, one
// large file, and many small ones in 40 directories.
func Models(b *testing.B, dir string) []Model {
	b.Helper()
	large := int64(*mebibytes) << 20
	var all []Model
	add := func(name string, sizes map[string]int64) {
		m := Model{Name: name, files: len(sizes)}
		for at, size := range sizes {
			m.bytes += size
			if err := fill(filepath.Join(dir, name, at), size); err != nil {
				b.Fatal(err)
			}
		}
		all = append(all, m)
	}
	shards := map[string]int64{}
	for i := range 4 {
		shards[fmt.Sprintf("model-%d.weights", i)] = large / 4
	}
	for i := range 20 {
		shards[fmt.Sprintf("small-%d.json", i)] = 20_000
	}
	add("shards", shards)
	add("one", map[string]int64{"model.weights": large})
	small := map[string]int64{}
	for i := range *files {
		small[fmt.Sprintf("%d/%d", i%40, i)] = 10_000
	}
	add("small", small)
	return all
}

// fill makes a file of noise.
func fill(name string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	noise := rand.NewChaCha8([32]byte{byte(size), byte(len(name))})
	block := make([]byte, 1<<20)
	for size > 0 {
		part := block[:min(size, int64(len(block)))]
		_, _ = noise.Read(part) // never fails
		if _, err := f.Write(part); err != nil {
			return err
		}
		size -= int64(len(part))
	}
	return f.Sync()
}

// copytree copies as a plain Python program does, and prints how long it took
// without Python's own start.
const copytree = `import shutil, sys, time
begun = time.monotonic()
shutil.copytree(sys.argv[1], sys.argv[2])
print(time.monotonic() - begun)`

// Compare copies a model from share to empty directories, alternately with ours and
// with Python's copytree or, without Python, with cp -r. It reports the median of the
// ratios of their times: how many times as fast ours is. behind is where the share's
// files are on disk.
func (m Model) Compare(b *testing.B, behind, share string, ours func(b *testing.B, dir string) time.Duration) {
	peer, run := findPeer(b)
	b.SetBytes(m.bytes)
	b.ReportAllocs()
	var ratios []float64
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		var took [2]time.Duration
		for turn := range 2 {
			to := b.TempDir()
			if err := forget(filepath.Join(behind, m.Name)); err != nil {
				b.Fatal(err)
			}
			if (n+turn)%2 == 0 {
				took[0] = run(b, filepath.Join(share, m.Name), filepath.Join(to, m.Name))
			} else {
				b.StartTimer()
				took[1] = ours(b, to)
				b.StopTimer()
			}
			// Many small files stay until the end: ext4 without a journal is
			// slow to make files where others were removed just before.
			if m.files < 100 {
				if err := os.RemoveAll(to); err != nil {
					b.Fatal(err)
				}
			}
		}
		ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
		b.StartTimer()
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-"+peer)
	b.ReportMetric(ratios[0], "lowest")
	b.ReportMetric(ratios[len(ratios)-1], "highest")
}

// findPeer returns the program to compare with.
func findPeer(b *testing.B) (name string, run func(b *testing.B, from, to string) time.Duration) {
	// The interpreter itself rather than a version manager's wrapper.
	if out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output(); err == nil {
		python := strings.TrimSpace(string(out))
		return "copytree", func(b *testing.B, from, to string) time.Duration {
			out, err := exec.Command(python, "-c", copytree, from, to).Output()
			if err != nil {
				b.Fatal(err)
			}
			seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil {
				b.Fatal(err)
			}
			return time.Duration(seconds * float64(time.Second))
		}
	}
	if _, err := exec.LookPath("cp"); err != nil {
		b.Skip("neither python3 nor cp to compare with")
	}
	return "cp", func(b *testing.B, from, to string) time.Duration {
		begun := time.Now()
		if err := exec.Command("cp", "-r", from, to).Run(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
}
