// Package nethttp_test runs the tests of net/http with httpmw around every client and
// every server in them.
//
// It takes minutes and depends on the tests of one version of Go, so it runs only on
// request:
//
//	HTTPMW_NETHTTP=1 go test -v ./nethttp
package nethttp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	module = "github.com/resilience-go/resilience"
	home   = "net/http/internal/guard" // where net/http can import our packages
)

// hooks are the changes to net/http: its client and its server call the guards.
var hooks = []struct{ file, old, new string }{
	{"client.go", "\tif c.Transport != nil {\n\t\treturn c.Transport\n\t}\n\treturn DefaultTransport\n",
		"\trt := c.Transport\n\tif rt == nil {\n\t\trt = DefaultTransport\n\t}\n\tif GuardTransport != nil {\n\t\treturn GuardTransport(rt)\n\t}\n\treturn rt\n"},
	{"server.go", "\n\n\thandler.ServeHTTP(rw, req)\n}\n\nfunc badServeHTTP",
		"\n\tif GuardHandler != nil {\n\t\thandler = GuardHandler(sh.srv, handler)\n\t}\n\thandler.ServeHTTP(rw, req)\n}\n\nfunc badServeHTTP"},
}

const declared = `package http

var (
	GuardTransport func(RoundTripper) RoundTripper
	GuardHandler   func(*Server, Handler) Handler
)
`

// noticed holds the tests that fail, or may fail, with httpmw, and the reasons.
var noticed = map[string]map[string]string{
	"client": {
		"TestTransportAndServerSharedBodyRace": "CancelRequest finds requests by their pointer, and Base has a copy",
		"TestClientTimeout":                    "http.Client adds its words to a timeout by chance unless it knows the transport",
		"TestClientTimeout_Headers":            "the same",
	},
	"server": {
		"TestWriteHeaderNoCodeCheck":          "the log of net/http names its direct caller",
		"TestWriteHeaderNoCodeCheck_h1hijack": "the same",
	},
	"retry": {
		"TestStripPasswordFromError":                "the error says that it was retried",
		"TestTransportDialPreservesNetOpProxyError": "the same",
		"TestNoCrashReturningTransportAltConn":      "the same",
		"TestOnProxyConnectResponse":                "it counts connections",
		"TestDontCacheBrokenHTTP2Conn":              "the same",
		"TestWriteDeadlineEnforcedPerStream":        "it wants the stream of the first attempt",
		// The servers of these tests expect one request.
		"TestCancelRequestWhenSharingConnection": "it waits for the second",
		"TestProxyWithInfiniteHeader":            "the same",
		"TestTimeoutHandler":                     "the same",
		"TestTransportProxyConnectHeader":        "the same",
		"TestTransportProxyGetConnectHeader":     "the same",
		"TestWriteHeader0":                       "it panics at the second",
	},
}

// The tests of net/http pass with httpmw around every client and server in them.
func TestNetHTTP(t *testing.T) {
	if os.Getenv("HTTPMW_NETHTTP") == "" {
		t.Skip("takes minutes: set HTTPMW_NETHTTP=1 to run it")
	}
	src := filepath.Join(output(t, "go", "env", "GOROOT"), "src", "net", "http")
	binary := build(t, src)
	for _, guard := range []string{"client", "server", "client,server", "client,retry"} {
		t.Run(guard, func(t *testing.T) {
			var skip []string
			for side, tests := range noticed {
				if strings.Contains(guard, side) {
					for name := range tests {
						skip = append(skip, "^"+name+"$")
					}
				}
			}
			failed := run(t, src, binary, guard, "-test.skip="+strings.Join(skip, "|"))
			for _, name := range failed {
				if only := "-test.run=^" + name + "$"; always(t, src, binary, guard, only) && run(t, src, binary, "", only) == nil {
					t.Errorf("%s fails with httpmw and passes without", name)
				}
			}
		})
	}
}

// always reports whether a test fails in every run alone. A busy machine fails tests
// that measure time. A client that closes its side of the connection may be rejected by
// net/http before the policies are called.
func always(t *testing.T, dir, binary, guard, only string) bool {
	t.Helper()
	for range 5 {
		if run(t, dir, binary, guard, only) == nil {
			return false
		}
	}
	return true
}

var verdict = regexp.MustCompile(`(?m)^--- (PASS|FAIL): (\w+)`)

// run runs tests of net/http and returns the names of those that failed.
func run(t *testing.T, dir, binary, guard string, flags ...string) (failed []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append(flags, "-test.short", "-test.v", "-test.timeout=4m")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HTTPMW_GUARD="+guard)
	out, err := cmd.CombinedOutput()
	passed := 0
	for _, m := range verdict.FindAllSubmatch(out, -1) {
		if string(m[1]) == "PASS" {
			passed++
		} else {
			failed = append(failed, string(m[2]))
		}
	}
	t.Logf("guard %q: %d passed, %d failed %v", guard, passed, len(failed), failed)
	if err != nil && failed == nil || passed+len(failed) == 0 {
		t.Fatalf("%v, and no test failed:\n%s", err, out[max(0, len(out)-10_000):])
	}
	return failed
}

// build compiles the test binary of net/http from the standard library, our packages and
// the hooks. It uses an overlay and changes no file.
func build(t *testing.T, src string) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	add := func(path, text string) {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(src, path)] = file
	}
	ours(t, add)
	for _, h := range hooks {
		text := read(t, filepath.Join(src, h.file))
		if strings.Count(text, h.old) != 1 {
			t.Skipf("this version of Go has another %s: %q is not in it once", h.file, h.old)
		}
		add(h.file, strings.Replace(text, h.old, h.new, 1))
	}
	add("guard_hooks.go", declared)
	add("guard_hooks_test.go", "package http_test\n\nimport _ \""+home+"\"\n")
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "http.test")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, "go", "test", "-vet=off", "-overlay", file, "-c", "-o", binary, "net/http")
	return binary
}

// ours adds our packages and their dependencies below home.
func ours(t *testing.T, add func(path, text string)) {
	t.Helper()
	args := []string{"list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{.Dir}}{{range .GoFiles}} {{.}}{{end}}{{end}}`}
	for _, p := range []string{"httpmw", "retry", "breaker", "bulkhead", "timeout"} {
		args = append(args, module+"/"+p)
	}
	var packages [][]string
	var renames []string
	for line := range strings.Lines(output(t, "go", args...)) {
		if p := strings.Fields(line); len(p) > 0 {
			packages = append(packages, p)
			renames = append(renames, `"`+p[0]+`"`, `"`+home+"/"+p[0]+`"`)
		}
	}
	imports := strings.NewReplacer(renames...)
	below := strings.TrimPrefix(home, "net/http/")
	for _, p := range packages {
		for _, file := range p[2:] {
			add(filepath.Join(below, p[0], file), imports.Replace(read(t, filepath.Join(p[1], file))))
		}
	}
	add(filepath.Join(below, "guard.go"), imports.Replace(read(t, filepath.Join("testdata", "guard.go"))))
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, problems.Bytes())
	}
	return strings.TrimSpace(string(out))
}
