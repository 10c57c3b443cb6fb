package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// pages returns the text of each page by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	if err != nil || len(paths) == 0 {
		t.Fatal("no pages: ", err)
	}
	all := map[string]string{}
	for _, path := range append(paths, "README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	return all
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notLink  = regexp.MustCompile(`[^\w\- ]`)
	blocks   = regexp.MustCompile("(?s)```(\\w*)\n(.*?)```")
	// rows of a table that begin with a field
	fields = regexp.MustCompile("(?m)^\\| `([A-Z]\\w*)` \\|")
)

// anchors returns the anchors of a page.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range headings.FindAllStringSubmatch(page, -1) {
		text := strings.ToLower(notLink.ReplaceAllString(m[1], ""))
		all[strings.ReplaceAll(text, " ", "-")] = true
	}
	return all
}

// Every link on the pages has a target.
func TestPages_links(t *testing.T) {
	for path, text := range pages(t) {
		text = blocks.ReplaceAllString(text, "")
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
			if anchor == "" {
				continue
			}
			if page, err := os.ReadFile(target); err != nil || !anchors(string(page))[anchor] {
				t.Errorf("%s links to %s, which has no such heading: %v", path, m[1], err)
			}
		}
	}
}

// Every policy has a page, and README.md links to it.
func TestPages_policies(t *testing.T) {
	all := pages(t)
	for _, name := range []string{"breaker", "retry", "bulkhead", "limit", "timeout", "fallback", "keyed", "stack", "http"} {
		path := "docs/" + name + ".md"
		if all[path] == "" {
			t.Errorf("%s is not there", path)
		}
		if !strings.Contains(all["README.md"], "]("+path+")") {
			t.Errorf("README.md has no link to %s", path)
		}
	}
}

// declarations holds the exported and unexported names of the module: "breaker.New", and
// "breaker.Config.Trip" for a field or a method of a type. The value reports whether the
// name is a field.
type declarations map[string]bool

func (d declarations) file(file *ast.File) {
	add := func(names ...string) {
		d[strings.Join(append([]string{file.Name.Name}, names...), ".")] = false
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
			add(receiver(f.Recv.List[0].Type), f.Name.Name)
		}
		for _, name := range declared(decl) {
			add(name.Name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		prefix := file.Name.Name + "." + spec.Name.Name + "."
		switch typ := spec.Type.(type) {
		case *ast.StructType:
			d.members(prefix, typ.Fields, true)
		case *ast.InterfaceType:
			d.members(prefix, typ.Methods, false)
		}
		return false
	})
}

func (d declarations) members(prefix string, list *ast.FieldList, fields bool) {
	for _, member := range list.List {
		for _, name := range member.Names {
			d[prefix+name.Name] = fields
		}
	}
}

// receiver returns the name of the type of a method.
func receiver(typ ast.Expr) string {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return receiver(typ.X)
	case *ast.IndexExpr:
		return receiver(typ.X)
	case *ast.Ident:
		return typ.Name
	default:
		return fmt.Sprintf("%T", typ)
	}
}

// declare returns all declarations of the module and the names of its packages.
func declare(t *testing.T) (all declarations, packages []string) {
	t.Helper()
	all = declarations{}
	seen := map[string]bool{}
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil || file.Name.Name == "main" {
			return err
		}
		all.file(file)
		if name := file.Name.Name; !seen[name] {
			seen[name] = true
			packages = append(packages, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, packages
}

// Every exported name on the pages exists.
func TestPages_names(t *testing.T) {
	all, packages := declare(t)
	names := regexp.MustCompile(`(?:^|[^\w./-])((?:` + strings.Join(packages, "|") + `)\.[A-Z]\w*(?:\.[A-Z]\w*)?)`)
	found := 0
	for path, text := range pages(t) {
		for _, m := range names.FindAllStringSubmatch(text, -1) {
			found++
			if _, ok := all[m[1]]; !ok {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no name was found")
	}
}

// Every field of a Config has a row in a table on its page.
func TestPages_settings(t *testing.T) {
	all, _ := declare(t)
	text := pages(t)
	for typ, path := range map[string]string{
		"breaker.Config": "docs/breaker.md", "retry.Config": "docs/retry.md", "bulkhead.Config": "docs/bulkhead.md",
		"limit.Config": "docs/limit.md", "timeout.Config": "docs/timeout.md", "fallback.Config": "docs/fallback.md", "stale.Config": "docs/fallback.md",
		"keyed.Config": "docs/keyed.md", "stack.ClientConfig": "docs/stack.md", "stack.ServerConfig": "docs/stack.md",
		"httpmw.Transport": "docs/http.md", "httpmw.Server": "docs/http.md", "httpmw.Endpoints": "docs/endpoints.md",
		"grpcmw.Client": "docs/grpc.md", "grpcmw.Server": "docs/grpc.md",
	} {
		rows := map[string]bool{}
		for _, m := range fields.FindAllStringSubmatch(text[path], -1) {
			rows[m[1]] = true
		}
		for name, isField := range all {
			field, ok := strings.CutPrefix(name, typ+".")
			if ok && isField && ast.IsExported(field) && !rows[field] {
				t.Errorf("%s has no row for %s", path, name)
			}
		}
	}
}

// Every block of Go code on the pages is part of an example, which is compiled and run.
func TestPages_code(t *testing.T) {
	var examples strings.Builder
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, _ fs.DirEntry, err error) error {
		if name := filepath.Base(path); err != nil || !strings.HasPrefix(name, "example_") || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		examples.Write(src)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tabs := regexp.MustCompile(`(?m)^\t+`) // a page shows an inner part, with fewer tabs
	src := tabs.ReplaceAllString(examples.String(), "")
	for path, text := range pages(t) {
		if path == "README.md" {
			continue // TestREADME_code
		}
		found := 0
		for _, m := range blocks.FindAllStringSubmatch(text, -1) {
			if m[1] != "go" {
				continue
			}
			found++
			if !strings.Contains(src, tabs.ReplaceAllString(m[2], "")) {
				t.Errorf("%s has code that no example_test.go has:\n%s", path, m[2])
			}
		}
		if found == 0 && path != "docs/guarantees.md" && path != "docs/README.md" {
			t.Errorf("%s has no code", path)
		}
	}
}

// The breaker costs as many calls as its page reports, in the cases in which it does not
// help.
func TestBreaker_costWithoutBenefit(t *testing.T) {
	for name, test := range map[string]struct {
		rate, outage, failing float64 // calls a second, seconds, share
		err                   error
		ok, rejected          float64 // percent
		within                float64
	}{
		"half back, timeouts":         {50, 60, 0.5, context.DeadlineExceeded, 50, 0, 1},
		"a tenth back, timeouts":      {50, 60, 0.9, context.DeadlineExceeded, 4, 57, 2},
		"half back":                   {50, 60, 0.5, errDown, 50, 0, 1},
		"a tenth back":                {50, 60, 0.9, errDown, 10, 2, 1},
		"half of 50 a second":         {50, 0, 0.5, errDown, 50, 0, 1},
		"half of 10 a second":         {10, 0, 0.5, errDown, 50, 0, 1},
		"half of five calls a second": {5, 0, 0.5, errDown, 50, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := resilience.Must(breaker.New(breaker.Config{}))
				rng := rand.New(rand.NewPCG(1, 17))
				drive(b, rng, test.rate, 60, 0, nil)
				drive(b, rng, test.rate, test.outage, 1, errDown)
				ok, rejected := drive(b, rng, test.rate, 3600, test.failing, test.err)
				if math.Abs(ok-test.ok) > test.within || math.Abs(rejected-test.rejected) > test.within {
					t.Errorf("%.1f %% succeed, want %.1f; %.1f %% are rejected, want %.1f", ok, test.ok, rejected, test.rejected)
				}
			})
		})
	}
}

// drive makes calls at random times, of which a share fails with failure. It returns the
// percentages of successful and of rejected calls.
func drive(p resilience.Policy, rng *rand.Rand, rate, seconds, failing float64, failure error) (ok, rejected float64) {
	calls := rate * seconds
	for range int(calls) {
		var err error
		if rng.Float64() < failing {
			err = failure
		}
		switch err = resilience.Run(context.Background(), p, func(context.Context) error { return err }); {
		case err == nil:
			ok++
		case errors.Is(err, resilience.ErrRejected):
			rejected++
		}
		time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
	}
	return 100 * ok / calls, 100 * rejected / calls
}
