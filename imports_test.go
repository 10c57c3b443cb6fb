package resilience_test

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module     = "github.com/resilience-go/resilience"
	clock      = "github.com/benbjohnson/clock"
	sync_      = "golang.org/x/sync/..."
	grpc       = "google.golang.org/grpc/..."
	prometheus = "github.com/prometheus/client_golang/..."
	internal   = module + "/internal/..."
	adapter    = module + "/internal/adapter"
	series     = module + "/metrics/internal/series"
	ranks      = module + "/limit/internal/rank"
	endpoints  = module + "/endpoint"
	googleRPC  = "google.golang.org/genproto/googleapis/rpc/..." // the details of a gRPC status
	protobuf   = "google.golang.org/protobuf/..."
)

var policies = []string{"breaker", "retry", "bulkhead", "timeout", "fallback", "limit", "stale", "endpoint"}

// imports maps a package to its imports, without the standard library.
type imports map[string][]string

// allowed returns the imports that packages of the module may have besides the standard
// library. A package without a rule may import anything except programs. metrics and debug
// import the core and no policy; httpmw and grpcmw also import package endpoint.
func allowed() map[string][]string {
	rules := map[string][]string{
		module:              {},
		internal:            {module, clock, sync_, internal},
		module + "/keyed":   {module, clock, sync_, internal},
		module + "/httpmw":  {module, adapter, endpoints},
		module + "/grpcmw":  {module, adapter, endpoints, grpc, googleRPC, protobuf},
		module + "/stack":   {module, clock, sync_, internal, module + "/keyed"},
		module + "/debug":   {module},
		series:              {},
		ranks:               {module},
		module + "/metrics": {module, clock, internal, series, prometheus},
	}
	for _, p := range policies {
		rules[module+"/"+p] = []string{module, clock, sync_, internal}
		rules[module+"/stack"] = append(rules[module+"/stack"], module+"/"+p)
	}
	rules[module+"/limit"] = append(rules[module+"/limit"], module+"/limit/internal/...")
	return rules
}

// matches reports whether path is pattern or, if pattern ends in /..., below it.
func matches(pattern, path string) bool {
	root, tree := strings.CutSuffix(pattern, "/...")
	return path == root || tree && strings.HasPrefix(path, root+"/")
}

func (im imports) broken() (broken []string) {
	for pattern, may := range allowed() {
		for pkg, paths := range im {
			if !matches(pattern, pkg) {
				continue
			}
			for _, path := range paths {
				if !slices.ContainsFunc(may, func(p string) bool { return matches(p, path) }) {
					broken = append(broken, fmt.Sprintf("%s must not import %s", pkg, path))
				}
			}
		}
	}
	for pkg, paths := range im {
		for _, path := range paths {
			for _, program := range []string{"/examples/...", "/bench/..."} {
				if matches(module+program, path) && !matches(module+program, pkg) {
					broken = append(broken, fmt.Sprintf("%s must not import %s, which is a program", pkg, path))
				}
			}
		}
	}
	for pkg, paths := range im { // without the imports of tests
		for _, forTests := range []string{module + "/internal/testkit", module + "/internal/dashboard"} {
			if slices.Contains(paths, forTests) {
				broken = append(broken, fmt.Sprintf("%s must not import %s, which is for tests", pkg, forTests))
			}
		}
	}
	return append(broken, im.heavy()...)
}

// heavy returns the heavy packages that a program with one of our packages compiles.
func (im imports) heavy() (broken []string) {
	light := []string{"", "/keyed", "/stack", "/httpmw", "/debug"}
	for _, p := range policies {
		light = append(light, "/"+p)
	}
	for _, pkg := range light {
		for dep := range im.deps(module + pkg) {
			if matches(grpc, dep) || matches(prometheus, dep) {
				broken = append(broken, fmt.Sprintf("a program that uses %s compiles %s", module+pkg, dep))
			}
		}
	}
	for pkg, not := range map[string]string{"/grpcmw": prometheus, "/metrics": grpc} {
		for dep := range im.deps(module + pkg) {
			if matches(not, dep) {
				broken = append(broken, fmt.Sprintf("a program that uses %s compiles %s", module+pkg, dep))
			}
		}
	}
	return broken
}

func (im imports) deps(pkg string) map[string]bool {
	seen := map[string]bool{}
	todo := []string{pkg}
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if !seen[p] {
			seen[p] = true
			todo = append(todo, im[p]...)
		}
	}
	delete(seen, pkg)
	return seen
}

// list returns the imports of all packages of the module and their dependencies, from
// the go command.
func list(t *testing.T) imports {
	t.Helper()
	const format = `{{.ImportPath}} {{.Standard}} {{join .Imports " "}}`
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-f", format, "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	im, standard := imports{}, map[string]bool{"C": true}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if fields[1] == "true" {
			standard[fields[0]] = true
		} else {
			im[fields[0]] = fields[2:]
		}
	}
	for pkg, paths := range im {
		im[pkg] = slices.DeleteFunc(paths, func(path string) bool { return standard[path] })
	}
	return im
}

// No package breaks the rules for imports.
func TestImports(t *testing.T) {
	im := list(t)
	if _, ok := im[module]; !ok {
		t.Fatalf("go list did not find the core among %d packages", len(im))
	}
	for _, fault := range slices.Sorted(slices.Values(im.broken())) {
		t.Error(fault)
	}
}

// The check finds each rule when it is broken.
func TestImports_brokenRule(t *testing.T) {
	sound := imports{
		module:                    nil,
		module + "/breaker":       {module, module + "/internal/counters", clock, "golang.org/x/sync/singleflight"},
		module + "/internal/deep": {module},
		module + "/httpmw":        {module},
		module + "/grpcmw":        {module, "google.golang.org/grpc/codes"},
		module + "/stack":         {module, module + "/breaker", module + "/keyed"},
		module + "/metrics":       {module, series, "github.com/prometheus/client_golang/prometheus"},
		module + "/examples/all":  {module + "/metrics", module + "/examples/part"},
	}
	if got := sound.broken(); got != nil {
		t.Fatalf("the rules are kept, but: %v", got)
	}
	for _, rule := range []struct{ pkg, path string }{
		{module, clock},
		{module + "/breaker", module + "/retry"},
		{module + "/internal/deep", module + "/breaker"},
		{module + "/httpmw", module + "/internal/counters"},
		{module + "/grpcmw", module + "/metrics"},
		{module + "/stack", module + "/httpmw"},
		{module + "/metrics", module + "/breaker"},
		{module + "/debug", module + "/keyed"},
		{series, module},
		{ranks, clock},
		{module + "/breaker", ranks},
		{module + "/debug", module + "/examples/all"},
		{module + "/fallback", "github.com/breaker"},
		{module + "/bulkhead", module + "/internal/testkit"},
		{module + "/keyed", module + "/internal/dashboard"},
	} {
		pkg, path := rule.pkg, rule.path
		t.Run(strings.TrimPrefix(pkg, module), func(t *testing.T) {
			im := maps.Clone(sound)
			im[pkg] = append(slices.Clone(im[pkg]), path)
			if !slices.ContainsFunc(im.broken(), func(s string) bool { return strings.Contains(s, pkg+" must not import "+path) }) {
				t.Errorf("%s imports %s, and only %q is noticed", pkg, path, im.broken())
			}
		})
	}
}

// The check finds gRPC and Prometheus in the dependencies of packages that must not have
// them.
func TestImports_heavyDependency(t *testing.T) {
	const grpcPackage, prometheusPackage = "google.golang.org/grpc", "github.com/prometheus/client_golang/prometheus"
	for pkg, heavy := range map[string][]string{
		"":          {grpcPackage, prometheusPackage},
		"/breaker":  {grpcPackage, prometheusPackage},
		"/retry":    {grpcPackage, prometheusPackage},
		"/bulkhead": {grpcPackage, prometheusPackage},
		"/timeout":  {grpcPackage, prometheusPackage},
		"/fallback": {grpcPackage, prometheusPackage},
		"/keyed":    {grpcPackage, prometheusPackage},
		"/stack":    {grpcPackage, prometheusPackage},
		"/httpmw":   {grpcPackage, prometheusPackage},
		"/grpcmw":   {prometheusPackage},
		"/metrics":  {grpcPackage},
	} {
		for _, path := range heavy {
			im := imports{
				module + pkg:              {module + "/internal/deep"},
				module + "/internal/deep": {"example.com/other"},
				"example.com/other":       {path},
			}
			if got := im.heavy(); len(got) != 1 {
				t.Errorf("%s compiles %s: got %q", module+pkg, path, got)
			}
		}
	}
}
