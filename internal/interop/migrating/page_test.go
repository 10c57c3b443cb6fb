package migrating_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sony/gobreaker/v2"
)

const pagePath = "../../../docs/migrating.md"

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A row of a table: its first three cells.
type row [3]string

func (r row) String() string { return "| " + strings.Join(r[:], " | ") + " |" }

// tables returns the rows of all tables whose third column is headed "here", by the
// heading of the second column.
func tables(t *testing.T) map[string][]row {
	t.Helper()
	all := map[string][]row{}
	peer := ""
	for line := range strings.Lines(page(t)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case len(cells) < 3:
			peer = ""
			continue
		case strings.TrimSpace(cells[2]) == "here":
			peer = strings.TrimSpace(cells[1])
		case peer != "" && !strings.HasPrefix(cells[0], "---"):
			all[peer] = append(all[peer], row{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])})
		}
	}
	return all
}

var code = regexp.MustCompile("`([A-Za-z]+)[^`]*`")

// mapped returns the code names in the first cells of the tables headed "their setting",
// in the section with that heading.
func mapped(t *testing.T, heading string) map[string]bool {
	t.Helper()
	_, section, ok := strings.Cut(page(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the page has no %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	all := map[string]bool{}
	in := false
	for line := range strings.Lines(section) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		in = strings.HasPrefix(line, "|") && (in || first == "their setting")
		if in {
			for _, m := range code.FindAllStringSubmatch(first, -1) {
				all[m[1]] = true
			}
		}
	}
	return all
}

func fields(typ reflect.Type) (all []string) {
	for f := range typ.Fields() {
		if f.IsExported() {
			all = append(all, f.Name)
		}
	}
	return all
}

func methods(typ reflect.Type) (all []string) {
	for m := range typ.Methods() {
		if m.Name != "Build" {
			all = append(all, m.Name)
		}
	}
	return all
}

// The page has a row for every setting of the other libraries.
func TestPage_mapsEverySetting(t *testing.T) {
	for heading, names := range map[string][]string{
		"From go-retryablehttp": fields(reflect.TypeFor[retryablehttp.Client]()),
		"From gobreaker":        fields(reflect.TypeFor[gobreaker.Settings]()),
		"From failsafehttp": append(methods(reflect.TypeFor[retrypolicy.Builder[any]]()),
			methods(reflect.TypeFor[circuitbreaker.Builder[any]]())...),
	} {
		rows := mapped(t, heading)
		for _, name := range names {
			if !rows[name] {
				t.Errorf("%q has no row for %s", heading, name)
			}
		}
	}
}
