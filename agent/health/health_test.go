package health_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/health"
)

func ExampleNew() {
	p := health.New(health.GPU, "GPU 5 fell off the bus")
	fmt.Println(p)
	fmt.Println(p.Remedy)
	// Output:
	// a GPU cannot be used: GPU 5 fell off the bus
	// look at nvidia-smi and dmesg; most often the machine has to be restarted
}

// Every reason is one word, has a cause and a remedy, and is documented.
func TestTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/commands.md")
	require.NoError(t, err)
	seen := map[health.Reason]bool{}
	for _, r := range health.Table() {
		require.Regexp(t, regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`), string(r.Reason))
		require.NotEmpty(t, r.Text, r.Reason)
		require.NotEmpty(t, r.Remedy, r.Reason)
		require.False(t, seen[r.Reason], r.Reason)
		seen[r.Reason] = true
		blocks := "no"
		if r.Blocks {
			blocks = "yes"
		}
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %s | %s | %s |\n", r.Reason, r.Text, blocks, r.Remedy))
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	problems := []health.Problem{
		health.New("of an embedder", ""), health.New(health.DiskLow, ""), health.New(health.GPU, "x"), health.New(health.Refused, "y"),
	}
	first, blocked := health.Blocking(problems[:2])
	require.False(t, blocked, first)
	health.Sort(problems)
	first, blocked = health.Blocking(problems)
	require.True(t, blocked)
	require.Equal(t, "the server refuses this agent: y", first.String())
	require.Equal(t, health.Reason("of an embedder"), problems[3].Reason)
}
