// Package ops generates the dashboard, the rules and the tables of docs/observability.md
// from the table of metrics. Expressions refer to the Go variables of the table, and their
// labels and values are checked against it, so that no expression selects a series that
// does not exist.
package ops

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// DocsPath is the path of the page about metrics, from the root of the module.
const DocsPath = "docs/observability.md"

// Files returns the generated files by their paths from root, the root of the module. It
// reads DocsPath, because only parts of that page are generated.
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

// fill replaces the text between the markers of each section.
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
