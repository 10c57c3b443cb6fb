// Package dashboard reads the queries of a Grafana dashboard, so that a test can send each
// of them to a Prometheus.
package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Query is one expression of one panel.
type Query struct {
	Panel string // its title
	RefID string // which of its queries
	Expr  string // PromQL, without variables
}

// Queries returns all queries of a dashboard, in the order of its panels. It replaces
// $__rate_interval by interval, such as "15s"; Grafana uses four times the scrape interval.
// It replaces all other variables by ".*", their value while "All" is selected. A dashboard
// without a query is an error.
func Queries(board []byte, interval string) ([]Query, error) {
	var b struct {
		Templating struct{ List []struct{ Name string } }
		Panels     []panel
	}
	if err := json.Unmarshal(board, &b); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	replace := []string{"$__rate_interval", interval}
	for _, v := range b.Templating.List {
		replace = append(replace, "$"+v.Name, ".*", "${"+v.Name+"}", ".*")
	}
	all, err := collect(b.Panels, strings.NewReplacer(replace...))
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("dashboard: it has no query")
	}
	return all, err
}

type panel struct {
	Title   string
	Targets []struct{ RefID, Expr string }
	Panels  []panel // of a row that is collapsed
}

func collect(panels []panel, r *strings.Replacer) (all []Query, err error) {
	for _, p := range panels {
		for _, t := range p.Targets {
			expr := r.Replace(t.Expr)
			if strings.Contains(expr, "$") {
				return nil, fmt.Errorf("dashboard: panel %q: %s has a variable that the dashboard does not define", p.Title, expr)
			}
			all = append(all, Query{p.Title, t.RefID, expr})
		}
		inner, err := collect(p.Panels, r)
		if err != nil {
			return nil, err
		}
		all = append(all, inner...)
	}
	return all, nil
}
