package debug_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/debug"
)

// reports is a policy of another module that reports what it is made with.
type reports struct {
	policy
	report resilience.Report
}

func (r *reports) Report(bool) resilience.Report { return r.report }

// shards is a group of another module. It does not report unless it is embedded in a type
// that does.
type shards struct {
	policy
	nodes []resilience.Node
}

func (s *shards) Nodes() iter.Seq[resilience.Node] { return slices.Values(s.nodes) }

// reportingShards is a group whose report is a function.
type reportingShards struct {
	shards
	report func() resilience.Report
	name   func() string
}

func (s *reportingShards) Report(bool) resilience.Report { return s.report() }
func (s *reportingShards) Name() string                  { return s.name() }

func openBreakers() []resilience.Node {
	var nodes []resilience.Node
	for _, key := range []string{"a", "b"} {
		b := newBreaker(clock.NewMock(), "shard")
		_ = resilience.Run(context.Background(), b, fail)
		nodes = append(nodes, resilience.Node{Policy: b, Key: key, Fork: true})
	}
	return nodes
}

// A group that does not report, or panics, is shown with its keys.
func TestGroup_ofAnotherModule(t *testing.T) {
	ok := func() resilience.Report { return resilience.Report{Kind: "shards", Name: "s"} }
	named := func() string { return "s" }
	for name, test := range map[string]struct {
		group  resilience.Policy
		kind   string
		faults int
	}{
		"reports":       {&reportingShards{shards{nodes: openBreakers()}, ok, named}, "shards", 0},
		"does not":      {&shards{nodes: openBreakers()}, "", 0},
		"Report panics": {&reportingShards{shards{nodes: openBreakers()}, func() resilience.Report { panic("r") }, named}, "", 1},
		"Name panics":   {&reportingShards{shards{nodes: openBreakers()}, ok, func() string { panic("n") }}, "shards", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, page := asJSON(t, test.group), text(asHTML(t, test.group))
			if len(r.Groups) != 1 || r.Groups[0].Kind != test.kind || len(r.Groups[0].Keys) != 2 || r.Groups[0].States["OPEN"] != 2 || len(r.Faults) != test.faults {
				t.Fatalf("groups %+v, faults %q, others %+v", r.Groups, r.Faults, r.Others)
			}
			if !strings.Contains(page, "2 keys now: 2 OPEN") || r.Summary.Attention != 2 {
				t.Errorf("%+v, %s", r.Summary, page)
			}
		})
	}
}

// A group with a state has a card of its own among those that need attention.
func TestGroup_needsAttention(t *testing.T) {
	g := &reportingShards{
		shards{nodes: []resilience.Node{{Policy: newBreaker(clock.NewMock(), "shard"), Key: "a", Fork: true}}},
		func() resilience.Report {
			return resilience.Report{Kind: "shards", Name: "s", State: "FULL", Attention: true, Why: "too many keys"}
		},
		func() string { return "s" },
	}
	r, page := asJSON(t, g), text(asHTML(t, g))
	if r.Summary.Attention != 1 || r.Summary.States["shards"]["FULL"] != 1 || r.Groups[0].State != "FULL" {
		t.Errorf("%+v, %+v", r.Summary, r.Groups)
	}
	if !strings.Contains(page, "s FULL Whytoo many keys") || !strings.Contains(page, "Keys of s FULL") {
		t.Errorf("got %s", page)
	}
}

// A group inside another has the outer group and its key.
func TestGroup_nested(t *testing.T) {
	inner := &reportingShards{
		shards{nodes: openBreakers()},
		func() resilience.Report { return resilience.Report{Kind: "shards", Name: "inner"} },
		func() string { return "inner" },
	}
	r := asJSON(t, &shards{nodes: []resilience.Node{{Policy: inner, Key: "outer key", Fork: true}}})
	if len(r.Groups) != 2 || r.Groups[1].Key != "outer key" || len(r.Groups[1].Keys) != 2 {
		t.Errorf("got %+v", r.Groups)
	}
}

// slice is a policy that cannot be compared and reports.
type slice []int

func (slice) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (slice) Report(bool) resilience.Report                         { return resilience.Report{Kind: "slice", Name: "s"} }

// A policy that cannot be compared has a card.
func TestCard_uncomparablePolicy(t *testing.T) {
	if r := asJSON(t, slice{1}, slice{2}); len(r.Policies) != 2 || r.Policies[0].Kind != "slice" || len(r.Faults) != 0 {
		t.Errorf("policies %+v, faults %q", r.Policies, r.Faults)
	}
}

// Numbers that JSON does not have are null, and all else is shown.
func TestCard_notANumber(t *testing.T) {
	p := &reports{report: resilience.Report{Kind: "odd", Name: "odd", Values: []resilience.Value{
		{Name: "nan", Value: math.NaN(), Max: math.NaN()},
		{Name: "inf", Value: math.Inf(1), Max: math.Inf(1)},
		{Name: "low", Value: -3, Max: -1},
		{Name: "over", Value: 30, Max: 20},
		{Name: "half", Labels: []string{"without a value"}, Value: 1},
	}}}
	w := answer(t, debug.Handler(p), "GET", url+"?format=json")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"value": null`) {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	page := asHTML(t, p)
	elements(t, page)
	if strings.Contains(page, "ZgotmplZ") || strings.Count(page, "<meter") != 1 || !strings.Contains(text(page), "30 of 20") {
		t.Errorf("got %s", text(page))
	}
}

// The values of one name are shown together, in whatever order a report has them.
func TestCard_mixedValues(t *testing.T) {
	value := func(name, label string, v float64) resilience.Value {
		return resilience.Value{Name: name, Labels: []string{"outcome", label}, Value: v}
	}
	p := &reports{report: resilience.Report{Kind: "mixed", Name: "m", Values: []resilience.Value{
		value("calls_total", "good", 12), value("bytes_total", "sent", 7), value("calls_total", "bad", 5),
	}}}
	if page := text(asHTML(t, p)); !strings.Contains(page, "12 good, 5 bad") {
		t.Errorf("got %s", page)
	}
}

// Several labels are told apart, and a change has an arrow.
func TestCard_severalLabels(t *testing.T) {
	p := &reports{report: resilience.Report{Kind: "doors", Name: "d", Values: []resilience.Value{
		{Name: "moves_total", Labels: []string{"from", "half_open", "to", "open", "rule", "one push"}, Value: 72},
		{Name: "knocks_total", Labels: []string{"hand", "left", "force", "soft"}, Value: 4},
	}}}
	page := text(asHTML(t, p))
	for _, want := range []string{"72 half open → open (one push)", "4 left (soft)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q: %s", want, page)
		}
	}
}

// A strip of states is full also if all states last for no time.
func TestStrip_noTime(t *testing.T) {
	p := &reports{report: resilience.Report{Kind: "new", State: "B", History: []resilience.Event{{From: "A", To: "B"}}}}
	if page := asHTML(t, p); strings.Count(page, `width="300"`) != 2 {
		t.Errorf("got %s", page)
	}
}

// A report without end is cut.
func TestCard_longReport(t *testing.T) {
	p := &reports{report: resilience.Report{Kind: "long", Name: "long", Settings: strings.Repeat("s", 1<<20)}}
	for range 20_000 {
		p.report.Values = append(p.report.Values, resilience.Value{Name: strings.Repeat("v", 1<<10)})
		p.report.History = append(p.report.History, resilience.Event{From: "A", To: "B", Time: time.Now(), Err: errors.New(strings.Repeat("e", 1<<10))})
	}
	p.report.History = append(p.report.History, resilience.Event{From: "B", To: "LAST"})
	r := asJSON(t, p)
	if v, h := r.Policies[0].Values, r.Policies[0].History; len(v) != 1000 || len(h) != 100 || h[99].To != "LAST" {
		t.Errorf("%d values, %d changes of state", len(v), len(h))
	}
	elements(t, asHTML(t, p))
}

// The level of a past state decides how it looks in the strip, whatever its name is.
func TestStrip_levels(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	classes := func(good, half, bad string) (classes []string) {
		r := resilience.Report{Kind: "valve", Name: "v", State: bad, Attention: true, Time: now}
		for i, step := range []resilience.Event{
			{From: good, To: bad, Level: slog.LevelWarn}, {From: bad, To: half}, {From: half, To: good, Level: slog.LevelDebug}, {From: good, To: bad, Level: slog.LevelError},
		} {
			step.Time = now.Add(time.Duration(i-4) * time.Second)
			r.History = append(r.History, step)
		}
		for _, rect := range regexp.MustCompile(`<rect class="(\w+)"`).FindAllStringSubmatch(asHTML(t, &reports{report: r}), -1) {
			classes = append(classes, rect[1])
		}
		return classes
	}
	want := []string{"good", "bad", "half", "good", "bad"}
	for _, names := range [][3]string{{"CLOSED", "HALF_OPEN", "OPEN"}, {"OPEN", "CLOSED", "HALF_SHUT"}, {"OVERLOAD", "OPEN", "NORMAL"}} {
		if got := classes(names[0], names[1], names[2]); !slices.Equal(got[:min(5, len(got))], want) {
			t.Errorf("%q: %q", names, got)
		}
	}
}
