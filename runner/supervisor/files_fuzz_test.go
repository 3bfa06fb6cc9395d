package supervisor

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func FuzzExit(f *testing.F) {
	f.Add([]byte(`{"version":1,"code":137,"signal":"SIGKILL","oom":true,"ended":"2026-11-29T01:10:26.49Z"}`))
	f.Add([]byte(`{"version":1,"error":"no kitt"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := decode[Exit](ExitFile, text)
		if err != nil {
			return
		}
		e = e.plausible()
		if e.Code < 0 || e.Code > 255 || len(e.Error) > 4*maxReason || e.Started.After(e.Ended) || e.Ended.After(time.Now()) {
			t.Fatalf("%q gave %+v", text, e)
		}
		_ = e.Err()
	})
}

func FuzzAlive(f *testing.F) {
	f.Add([]byte(`{"version":1,"beat":7,"output":-3,"done":true}   `))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/"+AliveFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if a, _, _ := d.Alive(); a.Output < 0 {
			t.Fatalf("%q gave %+v", text, a)
		}
	})
}

func FuzzGaps(f *testing.F) {
	f.Add([]byte(`{"version":1,"freed":8192,"unread":[{"from":1,"to":8192}]}`))
	f.Add([]byte(`{"version":1,"freed":0,"unread":null}  `))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseGaps(text)
		if err != nil {
			return
		}
		missing := int64(0)
		for _, r := range g.Unread {
			missing += r.To - r.From
		}
		if g.Freed < 0 || missing < 0 || missing > g.Freed {
			t.Fatalf("%q gave %+v", text, g)
		}
	})
}

func FuzzIndex(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add(appendIndex(appendIndex(nil, 10, now), 30, now.Add(time.Second)), int64(5))
	f.Add([]byte("too short"), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		r := indexReader{file: bytes.NewReader(data)}
		var last time.Time
		for range 4 {
			at, upTo, ok := r.find(offset)
			if ok && (upTo <= offset || at.Before(last)) {
				t.Fatalf("%q at %d: %v, up to %d", data, offset, at, upTo)
			}
			if ok {
				last, offset = at, upTo
			}
		}
	})
}
