package resilience_test

import (
	"context"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stale"
	"github.com/resilience-go/resilience/timeout"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// README.md has at most 900 words.
func TestREADME_length(t *testing.T) {
	if n := len(strings.Fields(read(t, "README.md"))); n > 900 {
		t.Errorf("%d words", n)
	}
}

// The two commands of README.md have lines of their own: CI runs the second one.
func TestREADME_commands(t *testing.T) {
	if !strings.Contains(read(t, "README.md"), "```sh\ngo run ./examples/chaos\ngo test ./...\n```") {
		t.Error("no block with both commands")
	}
}

// Each Go line of README.md stands in readmeCode, in the order of README.md, so that its
// blocks compile as one function.
func TestREADME_code(t *testing.T) {
	_, rest, _ := strings.Cut(read(t, "examples/readme_test.go"), "\nfunc readmeCode(")
	found := 0
	for _, m := range blocks.FindAllStringSubmatch(read(t, "README.md"), -1) {
		if m[1] != "go" {
			continue
		}
		for line := range strings.Lines(m[2]) {
			found++
			_, after, ok := strings.Cut(rest, "\t"+strings.TrimSpace(line)+"\n")
			if !ok {
				t.Errorf("readmeCode does not have %q at its place", strings.TrimSpace(line))
				continue
			}
			rest = after
		}
	}
	if found == 0 {
		t.Error("no code")
	}
}

// The badges say what go.mod and LICENSE say.
func TestREADME_badges(t *testing.T) {
	badges := read(t, "docs/badges.svg")
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if version == nil || !strings.Contains(badges, ">"+version[1]+" or later<") {
		t.Errorf("the badge does not have the Go version %v", version)
	}
	if !strings.HasPrefix(read(t, "LICENSE"), "MIT License") || !strings.Contains(badges, ">MIT<") {
		t.Error("the badge does not have the license")
	}
}

// settings are the rows of the table of all settings: field, zero value, negative.
func settings(t *testing.T) map[string][2]string {
	t.Helper()
	rows := map[string][2]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+\\.\\w+\\.\\w+)` \\| (.+?) \\| (.+?) \\|$").FindAllStringSubmatch(read(t, "docs/README.md"), -1) {
		rows[m[1]] = [2]string{m[2], m[3]}
	}
	return rows
}

// The table of all settings has every field of every configuration, and no others.
func TestSettings_complete(t *testing.T) {
	rows := settings(t)
	all, _ := declare(t)
	for name, isField := range all {
		typ, field, _ := strings.Cut(strings.SplitN(name, ".", 2)[1], ".")
		if isField && strings.HasSuffix(typ, "Config") && ast.IsExported(field) && !strings.HasPrefix(name, "resiliencetest") {
			if _, ok := rows[name]; !ok {
				t.Errorf("docs/README.md has no row for %s", name)
			}
			delete(rows, name)
		}
	}
	for name := range rows {
		t.Errorf("docs/README.md has a row for %s, which is not there", name)
	}
}

// configs make a policy of a configuration whose field has been set.
var configs = map[string]func(set func(config any)) error{
	"breaker.Config":  func(set func(any)) error { c := breaker.Config{}; set(&c); _, err := breaker.New(c); return err },
	"retry.Config":    func(set func(any)) error { c := retry.Config{}; set(&c); _, err := retry.New(c); return err },
	"bulkhead.Config": func(set func(any)) error { c := bulkhead.Config{}; set(&c); _, err := bulkhead.New(c); return err },
	"limit.Config":    func(set func(any)) error { c := limit.Config{}; set(&c); _, err := limit.New(c); return err },
	"timeout.Config":  func(set func(any)) error { c := timeout.Config{}; set(&c); _, err := timeout.New(c); return err },
	"fallback.Config": func(set func(any)) error {
		c := fallback.Config{Handle: func(context.Context, error) error { return nil }}
		set(&c)
		_, err := fallback.New(c)
		return err
	},
	"endpoint.Config": func(set func(any)) error {
		c := endpoint.Config{}
		set(&c)
		_, err := endpoint.New(c)
		return err
	},
	"stale.Config": func(set func(any)) error { c := stale.Config{}; set(&c); _, err := stale.New[int](c); return err },
	"keyed.Config": func(set func(any)) error {
		c := keyed.Config{}
		set(&c)
		_, err := keyed.New(resilience.Compose(), c)
		return err
	},
	"metrics.HistogramConfig": func(set func(any)) error {
		c := metrics.HistogramConfig{}
		set(&c)
		_, err := metrics.NewHistogram(c)
		return err
	},
}

// A number accepts -1 exactly if the table names a constant for it, and no other negative
// number. The error names the constant.
func TestSettings_negative(t *testing.T) {
	tried := 0
	for name, row := range settings(t) {
		i := strings.LastIndexByte(name, '.')
		build, field := configs[name[:i]], name[i+1:]
		if build == nil {
			continue // of stack: its layers are other configurations
		}
		number := false
		try := func(n int64) error {
			return build(func(config any) {
				v := reflect.ValueOf(config).Elem().FieldByName(field)
				if number = v.Kind() == reflect.Int || v.Type() == reflect.TypeFor[time.Duration](); number {
					v.SetInt(n)
				}
			})
		}
		minusOne, minusTwo := try(-1), try(-2)
		switch constant := strings.Trim(row[1], "`"); {
		case !number:
			if row[1] != "—" {
				t.Errorf("%s is no number, but has %s for negative ones", name, row[1])
			}
		case row[1] == "error":
			tried++
			if minusOne == nil || minusTwo == nil {
				t.Errorf("%s: -1 is %v, -2 is %v, want errors", name, minusOne, minusTwo)
			}
		default:
			tried++
			if minusOne != nil || minusTwo == nil || !strings.Contains(fmt.Sprint(minusTwo), constant) {
				t.Errorf("%s: -1 is %v, -2 is %v, want an error that names %s", name, minusOne, minusTwo, constant)
			}
		}
	}
	if tried < 12 {
		t.Errorf("only %d numbers were tried", tried)
	}
}

// A default that is a number stands in the documentation of its field.
func TestSettings_defaults(t *testing.T) {
	number := regexp.MustCompile(`^\d+( m?s| h)?`)
	tried := 0
	for name, row := range settings(t) {
		want := number.FindString(row[0])
		if want == "" {
			continue
		}
		tried++
		pkg, _, _ := strings.Cut(name, ".")
		paths, _ := filepath.Glob(pkg + "/*.go")
		if !slices.ContainsFunc(paths, func(path string) bool {
			return !strings.HasSuffix(path, "_test.go") && strings.Contains(read(t, path), want)
		}) {
			t.Errorf("%s: no file of package %s says %q", name, pkg, want)
		}
	}
	if tried < 10 {
		t.Errorf("only %d defaults were tried", tried)
	}
}
