package logstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hundred is a line of 100 bytes.
var hundred = strings.Repeat("x", 99) + "\n"

// BenchmarkAppend takes 100,000 lines of 100 bytes in pieces as a follower of a
// file reads them.
func BenchmarkAppend(b *testing.B) {
	raw := []byte(strings.Repeat(hundred, 100_000))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l, err := Open(filepath.Join(b.TempDir(), fmt.Sprint(i)), Options{})
		require.NoError(b, err)
		for at := 0; at < len(raw); at += 64 << 10 {
			l.Append(raw[at:min(at+64<<10, len(raw))], time.Time{}, Position{Byte: int64(at)})
		}
		require.EqualValues(b, 100_000, l.Len())
		require.NoError(b, l.Close())
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkProgressBar takes 1 MiB of a progress bar, whose states end in a
// carriage return, in pieces of several sizes. The throughput must not depend on
// the size.
func BenchmarkProgressBar(b *testing.B) {
	var raw []byte
	for i := 0; len(raw) < 1<<20; i++ {
		raw = fmt.Appendf(raw, "\rLoading checkpoint shards: %3d%%", i%101)
	}
	raw = raw[:1<<20]
	for _, piece := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("piece=%dKiB", piece>>10), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			l := fresh(b)
			for b.Loop() {
				for at := 0; at < len(raw); at += piece {
					l.Append(raw[at:at+piece], time.Time{}, l.Position())
				}
			}
		})
	}
}

// BenchmarkOpenLine takes 1 MiB of a line that does not end, in pieces of several
// sizes. The throughput must not fall with the length of the open line.
func BenchmarkOpenLine(b *testing.B) {
	raw := bytes.Repeat([]byte("x"), 1<<20)
	for _, piece := range []int{64, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("piece=%dB", piece), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			l := fresh(b)
			for b.Loop() {
				from := l.Position()
				for at := 0; at < len(raw); at += piece {
					l.Append(raw[at:at+piece], time.Time{}, from)
					from.Byte += int64(piece)
				}
			}
		})
	}
}

// BenchmarkFollowers sends a log of 2,000 lines to 1,000 followers over HTTP.
func BenchmarkFollowers(b *testing.B) {
	const followers, lines = 1000, 2000
	l := fresh(b)
	l.Append([]byte(strings.Repeat(hundred, lines)), time.Time{}, Position{})
	require.NoError(b, l.Finish(Final{Status: "completed"}))
	url := serve(b, l)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: followers}}
	defer client.CloseIdleConnections()
	for b.Loop() {
		var wg sync.WaitGroup
		var got atomic.Int64
		for range followers {
			wg.Go(func() {
				resp, err := client.Get(url)
				if err != nil {
					b.Error(err)
					return
				}
				defer resp.Body.Close()
				got.Add(countEvents(resp.Body))
			})
		}
		wg.Wait()
		require.EqualValues(b, followers*lines, got.Load())
	}
	b.ReportMetric(followers*lines*float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

func countEvents(r io.Reader) int64 {
	var n int64
	buf := make([]byte, 64<<10)
	var tail []byte
	for {
		k, err := r.Read(buf)
		seen := append(tail, buf[:k]...)
		n += int64(bytes.Count(seen, []byte("event: log")))
		tail = append(tail[:0], seen[max(0, len(seen)-len("event: log")+1):]...)
		if err != nil {
			return n
		}
	}
}

// BenchmarkPrintToFollower measures the time from a line's print to its arrival
// at a follower, at a slow trickle and in a flood, with 50 followers that never
// read at the same time.
func BenchmarkPrintToFollower(b *testing.B) {
	for _, rate := range []struct {
		name  string
		lines int
		pause time.Duration
	}{
		{"trickle", 10, 500 * time.Millisecond},
		{"flood", 20_000, 0},
	} {
		b.Run(rate.name, func(b *testing.B) {
			var waits []time.Duration
			for b.Loop() {
				waits = append(waits, printToFollower(b, rate.lines, rate.pause)...)
			}
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

func printToFollower(b *testing.B, lines int, pause time.Duration) []time.Duration {
	l := fresh(b)
	url := serve(b, l)
	for range 50 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(b, err)
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(b, err)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	require.NoError(b, err)
	defer resp.Body.Close()
	go func() {
		var piece []byte
		for i := range lines {
			piece = fmt.Appendf(piece, "%d %d\n", i, time.Now().UnixNano())
			if pause > 0 || len(piece) > 4<<10 || i == lines-1 {
				l.Append(piece, time.Time{}, l.Position())
				piece = piece[:0]
				<-time.After(pause)
			}
		}
		_ = l.Finish(Final{Status: "completed"})
	}()
	var waits []time.Duration
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		_, rest, ok := strings.Cut(in.Text(), `"line":"`)
		if !ok {
			continue
		}
		var i int
		var at int64
		if _, err := fmt.Sscanf(rest, "%d %d", &i, &at); err == nil {
			waits = append(waits, time.Duration(time.Now().UnixNano()-at))
		}
	}
	require.Len(b, waits, lines)
	return waits
}
