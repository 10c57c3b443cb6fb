package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/internal/dashboard"
)

// The panels for which a run must have something above 0. The others must have
// series.
var mustMove = []string{
	"Worst state", "Not closed", "Calls by outcome", "Share rejected", "Share that failed", "Share of time open",
	"Transitions by rule", "Probes by result",
	"Calls by how they ended", "Attempts by kind", "Attempts per call", "Given up by reason", "Budget and its capacity",
	"Slots asked for, by outcome", "Calls with a timeout", "Calls that timed out", "Keys",
	"Duration of calls", "Calls that were timed",
}

// The panels of which the example has no policy, and the one series recorded of it.
var (
	mustBeEmpty = []string{
		"Fallbacks by outcome", "Stale values by outcome", "Fetches of stale values", "Values remembered",
		"Limits in an overload", "Requests by outcome", "Share refused", "Rejected by priority", "Limit, knee and in flight",
		"Waiting for the handler", "Trials by result", "Overloads that began",
		"Endpoints not in", "Attempts by endpoint chosen", "Ejections by reason",
	}
	notRecorded = "name:resilience_limit_calls:refused_ratio_rate5m"
)

// Prometheus scrapes a run, and its answers fill the dashboard and the rules.
func TestRun_prometheus(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	tool(t, "prometheus")
	// The servers start first: it takes them up to ten seconds to begin with a target.
	target := freeAddr(t)
	_, port, _ := net.SplitHostPort(target)
	number, _ := strconv.Atoi(port)
	release := demo.Reserve(number)
	classic := startPrometheus(t, target)
	native := startPrometheus(t, target, "--enable-feature=native-histograms")
	for _, s := range []*promServer{classic, native} {
		s.until(t, "scrapes", func() bool { return s.series(t, "up").count > 0 })
	}
	release()
	start := time.Now()
	pages := runThatShowsFaults(t, target)
	over := time.Now()

	for _, tt := range []struct {
		name      string
		server    *promServer
		durations string
	}{
		{"classic buckets", classic, "resilience_call_duration_seconds_bucket"},
		{"native histograms", native, "histogram_count(resilience_call_duration_seconds)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.server
			s.start = start
			s.until(t, "scrapes what there is at the end", func() bool {
				return s.series(t, "timestamp(resilience_keyed_keys)").largest > float64(over.Unix()+1)
			})
			// From 3.8 on it is not the flag that asks for native histograms.
			if n := s.series(t, tt.durations).count; n == 0 && strings.HasPrefix(s.version(t), "2.") {
				t.Errorf("there is nothing for %s", tt.durations)
			}
			s.answersTheDashboard(t)
			s.evaluatesTheRules(t)
		})
	}
	t.Run("promtool", func(t *testing.T) {
		_, text := get(t, pages+"metrics")
		check := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
}

// What a run must have counted to be of use to the dashboard.
var faultsSeen = []*regexp.Regexp{
	regexp.MustCompile(`resilience_timeout_exceeded_total\{name="broken",result="failed"\} [1-9]`),
	regexp.MustCompile(`resilience_breaker_probes_total\{name="broken",result="failure"\} [1-9]`),
}

// runThatShowsFaults leaves the systems of a run standing, and returns the address of
// the pages. On a machine that is busy with something else, requests may come when a
// short fault is over, so that it takes longer ones.
func runThatShowsFaults(t *testing.T, listen string) (pages string) {
	t.Helper()
	for unit := 400 * ms; ; unit *= 2 {
		p := begin(t, options{listen: listen, wait: true}, theScript(unit))
		pages = p.pages(t)
		p.await(t, "until Ctrl-C")
		_, text := get(t, pages+"metrics")
		if !slices.ContainsFunc(faultsSeen, func(r *regexp.Regexp) bool { return !r.MatchString(text) }) {
			return pages
		}
		if unit > time.Second {
			t.Fatalf("no fault was noticed:\n%s", text)
		}
		p.interrupt()
		<-p.code
	}
}

func readMetricsFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "metrics", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s *promServer) answersTheDashboard(t *testing.T) {
	queries, err := dashboard.Queries(readMetricsFile(t, "dashboard.json"), "10s")
	if err != nil {
		t.Fatal(err)
	}
	left := slices.Concat(mustMove, mustBeEmpty)
	for _, q := range queries {
		got := s.series(t, q.Expr)
		switch {
		case got.err != nil:
			t.Errorf("%s, query %s: %v", q.Panel, q.RefID, got.err)
		case (got.count == 0) != slices.Contains(mustBeEmpty, q.Panel):
			t.Errorf("%s, query %s, has %d series: %s", q.Panel, q.RefID, got.count, q.Expr)
		case got.largest <= 0 && slices.Contains(mustMove, q.Panel):
			t.Errorf("%s, query %s, was never above 0: %s", q.Panel, q.RefID, q.Expr)
		}
		left = slices.DeleteFunc(left, func(panel string) bool { return panel == q.Panel })
	}
	if len(left) > 0 {
		t.Errorf("the dashboard has no panels %q: take them out of this test, or give them their new name", left)
	}
}

var ruleName = regexp.MustCompile(`(?m)^ *- (?:alert|record): *(\S+)`)

func (s *promServer) evaluatesTheRules(t *testing.T) {
	type rule struct{ Name, Type, Health, LastError string }
	var rules []rule
	s.until(t, "evaluates all rules", func() bool {
		var got struct{ Groups []struct{ Rules []rule } }
		if err := s.ask(t, "rules", nil, &got); err != nil {
			t.Fatal(err)
		}
		rules = nil
		for _, g := range got.Groups {
			rules = append(rules, g.Rules...)
		}
		return !slices.ContainsFunc(rules, func(r rule) bool { return r.Health == "unknown" })
	})
	var want, loaded []string
	for _, m := range ruleName.FindAllSubmatch(readMetricsFile(t, "rules.yaml"), -1) {
		want = append(want, string(m[1]))
	}
	for _, r := range rules {
		loaded = append(loaded, r.Name)
		if r.Health != "ok" {
			t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
		}
		if r.Type == "recording" && (s.series(t, r.Name).count == 0) != (r.Name == notRecorded) {
			t.Errorf("rule %s has recorded something: %t", r.Name, s.series(t, r.Name).count > 0)
		}
	}
	slices.Sort(want)
	slices.Sort(loaded)
	if !slices.Equal(loaded, want) || len(want) == 0 {
		t.Errorf("loaded are %q, want %q", loaded, want)
	}
}

// promServer is a real Prometheus.
type promServer struct {
	addr  string
	log   *lines
	start time.Time // of what it is asked about
}

const promConfig = `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
- job_name: chaos
  static_configs:
  - targets: [%q]
`

// tool returns the path of a program of Prometheus, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not in PATH: install Debian's package prometheus, or a release of Prometheus 2.42 or later", name)
	}
	return path
}

// startPrometheus starts a server that scrapes target and that ends with the test.
func startPrometheus(t *testing.T, target string, flags ...string) *promServer {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join("..", "..", "metrics", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, promConfig, rules, target), 0o600); err != nil {
		t.Fatal(err)
	}
	var s *promServer
	for try := range 3 { // another process may take the port first
		s = &promServer{addr: freeAddr(t), log: newLines(), start: time.Now()}
		cmd := exec.CommandContext(t.Context(), tool(t, "prometheus"), slices.Concat(flags, []string{
			"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, strconv.Itoa(try)),
			"--web.listen-address=" + s.addr, "--log.level=warn",
		})...)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = cmd.Wait()
			s.log.end()
		}()
		t.Cleanup(func() { <-s.log.ended }) // the context of the test has been canceled
		up := false
		s.until(t, "starts", func() bool {
			up = s.ask(t, "status/buildinfo", nil, nil) == nil
			return up || s.hasEnded()
		})
		if up {
			return s
		}
	}
	t.Fatalf("Prometheus does not start: %s", s.log)
	return nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", demo.Loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *promServer) hasEnded() bool {
	select {
	case <-s.log.ended:
		return true
	default:
		return false
	}
}

func (s *promServer) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * ms)
	defer tick.Stop()
	for late := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(late) {
			t.Fatalf("it takes more than a minute until Prometheus %s. Its output: %s", what, s.log)
		}
	}
}

// ask puts the data of an answer into data.
func (s *promServer) ask(t *testing.T, path string, q url.Values, data any) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/api/v1/"+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return nil
}

func (s *promServer) version(t *testing.T) string {
	t.Helper()
	var build struct{ Version string }
	if err := s.ask(t, "status/buildinfo", nil, &build); err != nil {
		t.Fatal(err)
	}
	return build.Version
}

// answer is what a query says about all the time since start.
type answer struct {
	count   int     // of series
	largest float64 // of all values
	err     error
}

func (s *promServer) series(t *testing.T, query string) (a answer) {
	seconds := func(at time.Time) []string { return []string{strconv.FormatInt(at.Unix(), 10)} }
	var got struct{ Result []struct{ Values [][2]any } }
	a.err = s.ask(t, "query_range", url.Values{
		"query": {query}, "start": seconds(s.start), "end": seconds(time.Now().Add(time.Second)), "step": {"1"},
	}, &got)
	a.count = len(got.Result)
	for _, series := range got.Result {
		for _, v := range series.Values {
			if f, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64); err == nil && f > a.largest { // which no NaN is
				a.largest = f
			}
		}
	}
	return a
}
