package kittapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzAnswers passes any bytes to every parser of an answer. No parser may panic, and
// each accepted answer has the required fields.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`{"ack":true,"agent_id":"a","commands":[{"command_id":"c","test_id":"t","type":"run_test","payload":{}}],"settings":{"a":"b"}}`,
		`{"agent_id":"a","heartbeat_interval_s":30}`, `{"lines":[{"line":"a","created_at":"b"}]}`,
		`{"items":[{"model":"m","engine":"e","timestamp":"t","results":[{"metrics":{"x":NaN}}]}],"pages":1}`,
		`{"items":[{"id":"a","status":"queued","profile_id":"{\"a\":NaN}","engine_name":"cleanup","created_at":"2026-11-23 16:00:00"}],"page":1,"pages":1,"total":1}`,
		`{"error":"x"}`, `{"ok":true}`, `null`, `[`, `{"ack":true,"commands":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := parseRegistered(body); err == nil {
			require.NotEmpty(t, r.AgentID)
			require.GreaterOrEqual(t, int64(r.Interval), int64(0))
		}
		if answer, _, err := parseBeat(body); err == nil {
			for _, cmd := range answer.Commands {
				require.True(t, len(cmd.Payload) == 0 || json.Valid(cmd.Payload))
			}
		}
		if rows, err := parseRows(body); err == nil {
			require.NotNil(t, rows)
		}
		if page, err := parseTests(body); err == nil {
			for _, row := range page.Items {
				require.NotEmpty(t, row.ID)
				require.True(t, json.Valid(row.command(serverClock{zone: time.Local}).Payload))
			}
		}
		_, _ = parseResults(body)
		_ = confirmed(body, "ok")
		if text, ok := apiError(body); ok {
			require.LessOrEqual(t, len(printable(text)), maxText+8)
			require.NotContains(t, printable(text), "\n")
		}
		if json.Valid(body) {
			require.Equal(t, string(body), string(strict(body)), "what is JSON stays as it is")
		}
	})
}

func TestStrict(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`[NaN, -Infinity,Infinity]`: `[null, null,null]`,
		`{"a":NaN}`:                 `{"a":null}`,
		`"NaN\"NaN"`:                `"NaN\"NaN"`,
		`NaN`:                       `null`,
		`-1`:                        `-1`,
		`NaNNaN`:                    `NaNNaN`,
		`[-Infinit]`:                `[-Infinit]`,
		`[1NaN]`:                    `[1NaN]`,
	} {
		require.Equal(t, want, string(strict([]byte(in))), in)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 5-9/*")
	f.Add("bytes -1-9/10")
	f.Fuzz(func(t *testing.T, header string) {
		if from, whole, ok := contentRange(header); ok {
			require.GreaterOrEqual(t, from, int64(0))
			require.Less(t, from, whole)
		}
	})
}
