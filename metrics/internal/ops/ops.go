// Package ops makes what an operator works with out of the table of metrics: the
// dashboard, the rules, and their part of docs/observability.md. An expression names a
// metric by the Go variable of the table, and its labels and their values are checked
// against it, so none can outlive what it asks for.
package ops

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// DocsPath is the operator's page, from the root of the module.
const DocsPath = "docs/observability.md"

// Files returns what is generated, by its path from root, which is the root of the
// module. The operator's page is read there, since a part of it is written by hand.
func Files(root string) (map[string][]byte, error) {
	page, err := os.ReadFile(filepath.Join(root, DocsPath))
	if err != nil {
		return nil, err
	}
	docs, err := fill(string(page))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"metrics/dashboard.json": Dashboard(),
		"metrics/rules.yaml":     Rules(),
		DocsPath:                 []byte(docs),
	}, nil
}

// fill puts each section between its markers.
func fill(page string) (string, error) {
	for _, s := range []struct{ name, text string }{
		{"metrics", metricsTable()},
		{"panels", panelsTable()},
		{"recordings", recordingsTable()},
		{"alerts", alertSections()},
	} {
		begin, end := "<!-- generated: "+s.name+" -->\n", "<!-- end of "+s.name+" -->"
		before, rest, ok := strings.Cut(page, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			return "", fmt.Errorf("%s must have the line %q and, below it, %q", DocsPath, strings.TrimSuffix(begin, "\n"), end)
		}
		page = before + begin + s.text + end + after
	}
	return page, nil
}
