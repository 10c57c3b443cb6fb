package dashboard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/internal/dashboard"
)

const board = `{
	"templating": {"list": [{"name": "job"}, {"name": "name"}]},
	"panels": [
		{"title": "row", "panels": [{"title": "inner", "targets": [{"refId": "A", "expr": "up{job=~\"${job}\"}"}]}]},
		{"title": "two", "targets": [
			{"refId": "A", "expr": "rate(a{name=~\"$name\"}[$__rate_interval])"},
			{"refId": "B", "expr": "b"}
		]}
	]
}`

// Queries have no variables.
func TestQueries_noVariables(t *testing.T) {
	got, err := dashboard.Queries([]byte(board), "15s")
	want := []dashboard.Query{{"inner", "A", `up{job=~".*"}`}, {"two", "A", `rate(a{name=~".*"}[15s])`}, {"two", "B", "b"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// A dashboard without queries, with other text or with an unknown variable is an error.
func TestQueries_badDashboard(t *testing.T) {
	for name, test := range map[string]struct{ board, says string }{
		"no JSON":             {"{", "JSON"},
		"no query":            {`{"panels": [{"title": "text"}]}`, "no query"},
		"an unknown variable": {strings.Replace(board, `{"name": "job"}, `, "", 1), `"inner"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := dashboard.Queries([]byte(test.board), "15s"); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %q, %v, want an error that says %q", got, err, test.says)
			}
		})
	}
}
