package ops

import (
	"fmt"
	"strings"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

func metricsTable() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels besides `" + series.NameLabel + "` | Meaning |\n|---|---|---|---|\n")
	for _, m := range series.All {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels(m), m.Help)
	}
	return b.String()
}

func labels(m *series.Metric) string {
	var all []string
	for _, l := range m.Labels {
		text := "`" + l.Name + "`"
		if l.Values != nil {
			text += ": " + strings.Join(l.Values, ", ")
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func panelsTable() string {
	var b strings.Builder
	b.WriteString("| Row | Panel | How to read it |\n|---|---|---|\n")
	for _, row := range Rows() {
		for i, p := range row.Panels {
			title := row.Title
			if i > 0 {
				title = ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", title, p.Title, p.Description)
		}
	}
	return b.String()
}

func recordingsTable() string {
	var b strings.Builder
	b.WriteString("| Series | Meaning |\n|---|---|\n")
	for _, r := range Recordings {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, r.Help)
	}
	return b.String()
}

func alertSections() string {
	var b strings.Builder
	for _, a := range Alerts {
		when := "Fires when this holds:"
		if a.For != "" {
			when = "Fires when this holds for " + a.For + ":"
		}
		fmt.Fprintf(&b, "\n### %s\n\nSeverity: %s. %s\n\n```promql\n%s\n```\n\n", a.Name, a.Severity, when, a.Expr)
		fmt.Fprintf(&b, "%s\n\n- **Look first** %s\n- **Do this:** %s\n- **Ignore it** %s\n", a.Means, a.Look, a.Do, a.Ignore)
	}
	return b.String() + "\n"
}
