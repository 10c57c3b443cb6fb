package ops_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/internal/dashboard"
	"github.com/resilience-go/resilience/metrics/internal/ops"
	"github.com/resilience-go/resilience/metrics/internal/series"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The files in the repository are those that `go generate` writes.
func TestFiles_matchGenerated(t *testing.T) {
	files, err := ops.Files("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("%d files are generated, want 3", len(files))
	}
	for path, want := range files {
		if got := read(t, filepath.Join("../../..", path)); got != string(want) {
			t.Errorf("%s differs from the generated file: run `go generate ./metrics`", path)
		}
	}
}

var (
	metricName   = regexp.MustCompile(`\bresilience_\w+`)
	recordedName = regexp.MustCompile(`\w+:resilience_\w+:\w+`)
)

// named returns the metrics that a text names, without recorded series and without the
// suffixes of histograms.
func named(text string) map[string]bool {
	all := map[string]bool{}
	for _, name := range metricName.FindAllString(recordedName.ReplaceAllString(text, ""), -1) {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && base == series.CallDuration.Name {
				name = base
			}
		}
		all[name] = true
	}
	return all
}

func table() map[string]bool {
	all := map[string]bool{}
	for _, m := range series.All {
		all[m.Name] = true
	}
	return all
}

// Every metric that a file names is in the table.
func TestFiles_onlyMetricsOfTheTable(t *testing.T) {
	known := table()
	for _, path := range []string{"../../dashboard.json", "../../rules.yaml", "../../rules_test.yaml", "../../../docs/observability.md"} {
		names := named(read(t, path))
		if len(names) < 8 {
			t.Errorf("%s names only %d metrics: does metricName match?", path, len(names))
		}
		for name := range names {
			if !known[name] {
				t.Errorf("%s names %s, which is not in the table", path, name)
			}
		}
	}
}

// Every recorded series that a file names exists, and each file names all of them.
func TestRecordings_usedAndDefined(t *testing.T) {
	recorded := map[string]bool{}
	for _, r := range ops.Recordings {
		recorded[r.Name] = true
	}
	for _, path := range []string{"../../rules.yaml", "../../rules_test.yaml", "../../../docs/observability.md"} {
		seen := map[string]bool{}
		for _, name := range recordedName.FindAllString(read(t, path), -1) {
			if seen[name] = true; !recorded[name] {
				t.Errorf("%s names %s, which no rule records", path, name)
			}
		}
		for name := range recorded {
			if !seen[name] {
				t.Errorf("%s does not have %s", path, name)
			}
		}
	}
}

// Every metric of the table is on the dashboard.
func TestDashboard_hasEveryMetric(t *testing.T) {
	queries, err := dashboard.Queries([]byte(read(t, "../../dashboard.json")), "15s")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, q := range queries {
		all.WriteString(q.Expr + "\n")
	}
	shown := named(all.String())
	for name := range table() {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// alertCase matches a case of rules_test.yaml. Its second group is empty if the alert
// fires.
var alertCase = regexp.MustCompile(`alertname: (\w+)\n +exp_alerts:( \[\])?\n`)

// Each alert has a case in which it fires and one in which it does not.
func TestAlerts_casesFiringAndSilent(t *testing.T) {
	text := read(t, "../../rules_test.yaml")
	fires, silent := map[string]bool{}, map[string]bool{}
	cases := alertCase.FindAllStringSubmatch(text, -1)
	for _, m := range cases {
		if m[2] == "" {
			fires[m[1]] = true
		} else {
			silent[m[1]] = true
		}
	}
	if n := strings.Count(text, "alertname:"); n != len(cases) {
		t.Errorf("rules_test.yaml has %d alertname, and only %d have exp_alerts in the line below", n, len(cases))
	}
	known := map[string]bool{}
	for _, a := range ops.Alerts {
		known[a.Name] = true
		if !fires[a.Name] || !silent[a.Name] {
			t.Errorf("%s: tested firing %v, not firing %v", a.Name, fires[a.Name], silent[a.Name])
		}
	}
	for _, m := range cases { // a case for an unknown alert would always pass
		if !known[m[1]] {
			t.Errorf("rules_test.yaml has a case for %s, which is no alert", m[1])
		}
	}
}

// Each runbook URL is a section of the page, and each text is a sentence.
func TestAlerts_runbooksOnPage(t *testing.T) {
	page := strings.ToLower(read(t, "../../../docs/observability.md"))
	for _, a := range ops.Alerts {
		url, anchor, _ := strings.Cut(a.Runbook(), "#")
		if !strings.HasSuffix(url, "/"+ops.DocsPath) || !strings.Contains(page, "\n### "+anchor+"\n") {
			t.Errorf("%s has the runbook %s, which is not on the page", a.Name, a.Runbook())
		}
		for _, text := range []string{a.Summary, a.Means, a.Look, a.Do, a.Ignore} {
			if len(text) < 40 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s says %q: want a sentence", a.Name, text)
			}
		}
	}
}

type place struct{ X, Y, W, H int }

func (p place) overlaps(q place) bool {
	return p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  place
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Datasource               struct{ Type, UID string }
	Targets                  []struct{ RefID, Expr, LegendFormat string }
}

type board struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type        string
			Multi, IncludeAll bool
		}
	}
}

func parsed(t *testing.T) board {
	t.Helper()
	var b board
	if err := json.NewDecoder(bytes.NewReader(ops.Dashboard())).Decode(&b); err != nil {
		t.Fatal(err)
	}
	return b
}

// Panels fit into 24 columns and do not overlap.
func TestDashboard_panelsDoNotOverlap(t *testing.T) {
	panels := parsed(t).Panels
	ids := map[int]bool{}
	for i, p := range panels {
		g := p.GridPos
		if g.X < 0 || g.W <= 0 || g.H <= 0 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v, outside of 24 columns", p.Title, g)
		}
		if ids[p.ID] || p.ID <= 0 {
			t.Errorf("%q has the id %d, which is taken or none", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, q := range panels[:i] {
			if g.overlaps(q.GridPos) {
				t.Errorf("%q at %+v and %q at %+v overlap", p.Title, g, q.Title, q.GridPos)
			}
		}
	}
}

// Each panel has a title, one sentence of description and the variables in all queries.
func TestDashboard_panelDescriptions(t *testing.T) {
	titles := map[string]bool{}
	for _, p := range parsed(t).Panels {
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || titles[p.Title] {
			t.Errorf("the title %q is empty or taken", p.Title)
		}
		titles[p.Title] = true
		if d := p.Description; !strings.HasSuffix(d, ".") || strings.Count(d, ". ") > 0 || len(d) < 40 {
			t.Errorf("%q is described as %q: want one sentence", p.Title, d)
		}
		if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%q has the unit %q, %d queries, and asks %q", p.Title, p.FieldConfig.Defaults.Unit, len(p.Targets), p.Datasource.UID)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || !strings.Contains(q.LegendFormat, "{{name}}") {
				t.Errorf("%q has two queries %s, or one without a name: %q", p.Title, q.RefID, q.LegendFormat)
			}
			refs[q.RefID] = true
			if n := strings.Count(q.Expr, `job=~"$job",instance=~"$instance",name=~"$name"`); n != len(metricName.FindAllString(q.Expr, -1)) {
				t.Errorf("%q does not use all variables for each metric: %s", p.Title, q.Expr)
			}
			if strings.Contains(q.Expr, "[") != strings.Contains(q.Expr, "[$__rate_interval]") {
				t.Errorf("%q has an interval other than $__rate_interval: %s", p.Title, q.Expr)
			}
		}
	}
}

// The dashboard has variables for the data source, job, instance and name.
func TestDashboard_variables(t *testing.T) {
	b := parsed(t)
	if b.SchemaVersion < 39 || b.UID == "" || b.Title == "" {
		t.Errorf("version %d, uid %q, title %q", b.SchemaVersion, b.UID, b.Title)
	}
	got := map[string]string{}
	for _, v := range b.Templating.List {
		got[v.Name] = v.Type
		if v.Type == "query" && !(v.Multi && v.IncludeAll) {
			t.Errorf("%s does not allow several values, or all", v.Name)
		}
	}
	for name, typ := range map[string]string{"datasource": "datasource", "job": "query", "instance": "query", "name": "query"} {
		if got[name] != typ {
			t.Errorf("the variable %s is of type %q, want %q", name, got[name], typ)
		}
	}
}
