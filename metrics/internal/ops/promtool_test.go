package ops_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/internal/dashboard"
	"github.com/resilience-go/resilience/metrics/internal/series"
)

// promtool runs promtool. It skips the test if promtool is not installed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not in PATH: install Debian's package prometheus, or a release of Prometheus 2.42 or later")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// promtool accepts the rules.
func TestRules_promtoolCheck(t *testing.T) { promtool(t, "check", "rules", "../../rules.yaml") }

// promtool finds each case of rules_test.yaml fulfilled.
func TestRules_promtoolTest(t *testing.T) { promtool(t, "test", "rules", "../../rules_test.yaml") }

// promtool parses each query of the dashboard, as the expression of a rule.
func TestDashboard_promtoolParsesQueries(t *testing.T) {
	queries, err := dashboard.Queries([]byte(read(t, "../../dashboard.json")), "15s")
	if err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, q := range queries {
		rules.WriteString("      - record: query:" + series.Prefix + strings.Repeat("x", i) + ":" + q.RefID + "\n        expr: |-\n")
		for line := range strings.Lines(q.Expr + "\n") {
			rules.WriteString("          " + line)
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
