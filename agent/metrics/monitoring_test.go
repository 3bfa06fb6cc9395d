package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// monitoring holds what people load into Prometheus and Grafana.
const monitoring = "../../deploy/monitoring"

var metricName = regexp.MustCompile(`\bkitt_agent_[a-z_]+`)

// exported returns the names of all metrics.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	descs := make(chan *prometheus.Desc, 100)
	everything().Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	for d := range descs {
		names[name.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

// base returns the metric that a series belongs to.
func base(series string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		series = strings.TrimSuffix(series, suffix)
	}
	return series
}

// expressions returns the queries of the dashboard, with Grafana's variables replaced.
func expressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, "grafana-dashboard.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	var all []string
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
		for _, target := range p.Targets {
			all = append(all, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr))
		}
	}
	require.NotEmpty(t, all)
	return all
}

// Alerts, dashboard and documentation name metrics that there are, and the
// documentation names them all.
func TestMonitoringNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	names := exported(t)
	files := map[string]string{"dashboard": strings.Join(expressions(t), "\n")}
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "../../docs/monitoring.md"} {
		text, err := os.ReadFile(filepath.Join(monitoring, file))
		require.NoError(t, err)
		files[file] = string(text)
	}
	for file, text := range files {
		for _, name := range metricName.FindAllString(text, -1) {
			require.True(t, names[base(name)], "%s names %s", file, name)
		}
	}
	for name := range names {
		require.Contains(t, files["../../docs/monitoring.md"], "`"+name+"`")
	}
}

// promtool runs Prometheus' own tool, and skips the test where there is none.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		require.Empty(t, os.Getenv("KITT_TEST_PROMETHEUS"), "promtool: %v", err)
		t.Skip("no promtool: apt-get install prometheus")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	require.NoError(t, err, "promtool %v: %s", args, out)
	return string(out)
}

// TestAlerts holds the alerts against series of agents that work and of such that don't.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(monitoring, "alerts.yml"))
	promtool(t, "check", "config", filepath.Join(monitoring, "prometheus.yml"))
	require.Contains(t, promtool(t, "test", "rules", filepath.Join(monitoring, "alerts_test.yml")), "SUCCESS")

	// Every alert is raised by one of the series.
	rules, err := os.ReadFile(filepath.Join(monitoring, "alerts.yml"))
	require.NoError(t, err)
	tests, err := os.ReadFile(filepath.Join(monitoring, "alerts_test.yml"))
	require.NoError(t, err)
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		require.Regexp(t, `alertname: `+alert[1]+`\n +exp_alerts:`, string(tests))
	}
}

// The dashboard's queries are ones that Prometheus understands.
func TestDashboard(t *testing.T) {
	t.Parallel()
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for i, expr := range expressions(t) {
		quoted, err := json.Marshal(expr)
		require.NoError(t, err)
		rules += fmt.Sprintf("  - record: query:%d\n    expr: %s\n", i, quoted)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(file, []byte(rules), 0o600))
	promtool(t, "check", "rules", file)
}
