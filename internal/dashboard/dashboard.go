// Package dashboard reads the queries out of a dashboard of Grafana, so that a
// Prometheus can be asked each of them.
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

// Queries returns all queries of a dashboard, in the order of its panels. The variable
// that is the interval of a rate becomes interval, such as "15s": four times the scrape
// interval is what Grafana takes. All other variables become ".*", which is what they
// are while all is selected. A dashboard without a query is an error.
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
		err = fmt.Errorf("dashboard: there is no query in it")
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
				return nil, fmt.Errorf("dashboard: panel %q asks for %s, where a variable is left that the dashboard does not have", p.Title, expr)
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
