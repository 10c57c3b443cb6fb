// Package table prints what was measured.
package table

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Write writes rows, the first of which has the heads of the columns, as Markdown or
// in columns of text.
func Write(w io.Writer, rows [][]string, markdown bool) error {
	if markdown {
		for i, cells := range rows {
			fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(cells)))
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}
