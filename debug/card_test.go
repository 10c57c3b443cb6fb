package debug_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/stale"
	"github.com/resilience-go/resilience/timeout"
)

// An open breaker has a card that says why, since when and what is next.
func TestCard_openBreaker(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	b := newBreaker(mock, "payments")
	run(t, b, fail)
	mock.Add(90 * time.Second)
	r := asJSON(t, b)
	p := r.Policies[0]
	if p.Kind != "breaker" || p.Name != "payments" || p.State != "OPEN" || !p.Attention || p.SinceSeconds != 90 || p.Since != "2026-01-02T03:04:05Z" {
		t.Errorf("got %+v", p)
	}
	if p.RetryInSeconds < 600 || p.RetryAt == "" || !strings.Contains(p.Why, "connection refused") || p.Next == "" || p.Settings == "" {
		t.Errorf("got %+v", p)
	}
	if h := p.History; len(h) != 1 || h[0].From != "CLOSED" || h[0].To != "OPEN" || h[0].Error != "connection refused" || h[0].DelaySeconds < 600 || h[0].Failures != 1 {
		t.Errorf("history %+v", h)
	}
	if p.value(t, "calls_total", "failure") != 1 || p.value(t, "state", "open") != 1 {
		t.Errorf("values %+v", p.Values)
	}
	if r.Summary.Attention != 1 || r.Summary.States["breaker"]["OPEN"] != 1 || r.Summary.Text != "1 policy needs attention; breaker: 1 OPEN" {
		t.Errorf("summary %+v", r.Summary)
	}
	page := asHTML(t, b)
	for _, want := range []string{"1 needs attention - resilience", "Needs attention", "payments OPEN for 1m30s", p.Why, p.Next, "1 failure", "CLOSED → OPEN"} {
		if !strings.Contains(text(page), want) {
			t.Errorf("the page does not say %q:\n%s", want, text(page))
		}
	}
	if n := elements(t, page)["rect"]; n != 2 {
		t.Errorf("%d spans in the strip", n)
	}
}

// Times and ages are right after the wall time has jumped, as by a suspend.
func TestCard_afterJump(t *testing.T) {
	for jump, want := range map[time.Duration]float64{8 * time.Hour: 8*3600 + 3, -8 * time.Hour: 3} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hands := testkit.NewJumpClock()
				b := newBreaker(hands, "payments")
				run(t, b, fail)
				opened := hands.Now()
				time.Sleep(3 * time.Second)
				hands.Jump(jump)
				end := hands.Now().Add(3597 * time.Second)
				p := asJSON(t, b).Policies[0]
				stamp := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
				if p.SinceSeconds != want || p.Since != stamp(opened) || p.History[0].Time != stamp(opened) {
					t.Errorf("open for %v s since %s, history %s, want %v s since %s", p.SinceSeconds, p.Since, p.History[0].Time, want, stamp(opened))
				}
				if p.RetryInSeconds != 3597 || p.RetryAt != stamp(end) {
					t.Errorf("retry in %v s at %s, want %s", p.RetryInSeconds, p.RetryAt, stamp(end))
				}
				age := map[float64]string{3: "3s", 8*3600 + 3: "8h0m"}[want]
				if page := asHTML(t, b); !strings.Contains(text(page), "payments OPEN for "+age) || !strings.Contains(page, ", for "+age+":") {
					t.Errorf("the page does not say %s:\n%s", age, text(page))
				}
			})
		})
	}
}

// A breaker that a person has set has its mode on the card, also as a template.
func TestCard_mode(t *testing.T) {
	b := newBreaker(clock.NewMock(), "b")
	b.SetMode(breaker.ForcedOpen)
	for _, p := range []resilience.Policy{b, newGroup(t, b, keyed.Config{Name: "g"})} {
		r := asJSON(t, p)
		if c := r.Policies[0]; c.Mode != "ForcedOpen" || c.State != "OPEN" || r.Summary.Modes != 1 {
			t.Errorf("%T: %+v, %+v", p, c, r.Summary)
		}
		if !strings.Contains(text(asHTML(t, p)), "OPEN ForcedOpen") {
			t.Errorf("%T: the page does not say so", p)
		}
	}
}

// everyKind returns one policy of each kind of this module.
func everyKind() []resilience.Policy {
	return []resilience.Policy{
		newBreaker(clock.NewMock(), "p"),
		resilience.Must(retry.New(retry.Config{Name: "p"})),
		resilience.Must(bulkhead.New(bulkhead.Config{Name: "p", Slots: 7})),
		resilience.Must(limit.New(limit.Config{Name: "p"})),
		resilience.Must(timeout.New(timeout.Config{Name: "p"})),
		resilience.Must(fallback.New(fallback.Config{Name: "p", Handle: func(context.Context, error) error { return nil }})),
		resilience.Must(stale.New[int](stale.Config{Name: "p"})).Policy(),
	}
}

// Every kind has a card with the values and settings of its report.
func TestCard_everyKind(t *testing.T) {
	policies := everyKind()
	r, page := asJSON(t, policies...), asHTML(t, policies...)
	elements(t, page)
	if len(r.Policies) != len(policies) || len(r.Others) != 0 {
		t.Fatalf("got %+v", r)
	}
	for i, p := range policies {
		c, report := r.Policies[i], p.(resilience.Reporter).Report(true)
		if c.Kind != report.Kind || c.Settings == "" || len(c.Values) != len(report.Values) || c.State != report.State {
			t.Errorf("got %+v, want %+v", c, report)
		}
		for j, v := range report.Values {
			if c.Values[j].Name != v.Name || c.Values[j].Value != v.Value || c.Values[j].Max != v.Max {
				t.Errorf("%s: got %+v, want %+v", c.Kind, c.Values[j], v)
			}
		}
		if !strings.Contains(text(page), c.Settings) {
			t.Errorf("the page does not have the settings of %s", c.Kind)
		}
	}
}

// A policy is shown once, and a nil policy is skipped.
func TestHandler_eachPolicyOnce(t *testing.T) {
	b := newBreaker(nil, "b")
	if r := asJSON(t, nil, b, resilience.Compose(b, nil), (*breaker.Breaker)(nil)); len(r.Policies) != 1 {
		t.Errorf("got %+v", r.Policies)
	}
}

// quota is a policy of another module.
type quota struct{ left float64 }

func (*quota) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

func (q *quota) Report(details bool) resilience.Report {
	r := resilience.Report{Kind: "quota", Name: "api", State: "EMPTY", Attention: q.left == 0, Values: []resilience.Value{
		{Name: "calls_total", Labels: []string{"outcome", "over_quota"}, Value: 3},
		{Name: "units", Value: q.left, Max: 10},
	}}
	if details {
		r.Settings, r.Why, r.Next = "10 units a day", "all units are spent", "new units come at midnight"
		r.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r.Since, r.RetryAt = r.Time.Add(-time.Minute), r.Time.Add(90*time.Minute)
		r.History = []resilience.Event{{Time: r.Since, From: "FULL", To: "EMPTY", Reason: "last unit", Err: errors.New("over quota")}}
	}
	return r
}

// A policy of another module that reports gets the same card as ours. A state that does
// not need attention is not drawn as one that does.
func TestCard_policyOfAnotherModule(t *testing.T) {
	q := &quota{}
	r, page := asJSON(t, stack.Client("payments"), q), text(asHTML(t, q))
	i := slices.IndexFunc(r.Policies, func(p policyJSON) bool { return p.Kind == "quota" })
	if i < 0 || r.Policies[i].Name != "api" || r.Policies[i].value(t, "calls_total", "over_quota") != 3 || r.Summary.States["quota"]["EMPTY"] != 1 {
		t.Fatalf("got %+v", r)
	}
	for _, want := range []string{"api EMPTY for 1m0s", "Retry at2026-01-02 04:34:05.000 UTC, in 1h30m", "all units are spent", "new units come at midnight", "3 over quota", "0 of 10", "FULL → EMPTY", "over quota"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if !strings.Contains(asHTML(t, q), `<rect class="bad"`) {
		t.Error("the state that needs attention is not the worst of the strip")
	}
	q.left = 4
	if page := text(asHTML(t, q)); strings.Contains(page, "Needs attention") || !strings.Contains(page, "4 of 10") {
		t.Errorf("got %s", page)
	}
}

// hosts returns a group of n keys; every third breaker is open.
func hosts(t testing.TB, c clock.Clock, n int) *keyed.Group {
	t.Helper()
	g := newGroup(t, resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "hosts", MaxAttempts: 1})),
		newBreaker(c, "hosts"),
		resilience.Must(bulkhead.New(bulkhead.Config{Name: "hosts", Slots: 5})),
	), keyed.Config{Name: "hosts"})
	for i := range n {
		run(t, g.For(fmt.Sprintf("key %03d", i)), []resilience.Func{fail, succeed, succeed}[i%3])
	}
	return g
}

// A group has its keys, those that need attention first, and the templates have the
// counters of all keys.
func TestGroup_keys(t *testing.T) {
	r := asJSON(t, hosts(t, clock.NewMock(), 301))
	if len(r.Groups) != 1 || len(r.Groups[0].Keys) != 301 {
		t.Fatalf("%d groups", len(r.Groups))
	}
	g := r.Groups[0]
	if g.Kind != "keyed" || g.States["OPEN"] != 101 || g.States["CLOSED"] != 200 || r.Summary.Attention != 101 {
		t.Errorf("states %v, %+v", g.States, r.Summary)
	}
	for i, k := range g.Keys {
		if open := k.Policies[1].State == "OPEN"; open != (i < 101) || k.Policies[1].Key != k.Key || len(k.Policies) != 3 {
			t.Fatalf("key %d: %+v", i, k)
		}
		for _, p := range k.Policies {
			for _, v := range p.Values {
				if strings.HasPrefix(v.Name, "calls") {
					t.Fatalf("key %s has the counters of all keys: %+v", k.Key, v)
				}
			}
		}
	}
	if len(r.Policies) != 3 {
		t.Fatalf("policies %+v", r.Policies)
	}
	for _, p := range r.Policies {
		if !p.Template || p.State != "" || p.Group == nil || *p.Group != "hosts" {
			t.Errorf("got %+v", p)
		}
	}
	if got := r.Policies[1].value(t, "calls_total", "failure"); got != 101 {
		t.Errorf("%v failures", got)
	}
}

// The page has at most 100 keys and 100 cards, and says how many more there are.
func TestGroup_manyKeys(t *testing.T) {
	for n, more := range map[int]string{99: "", 101: "and 1 more key.", 400: "and 300 more keys."} {
		page := asHTML(t, hosts(t, clock.NewMock(), n))
		elements(t, page)
		if rows := strings.Count(page, `<details class="row" data-key="keyed/hosts/`); rows != min(n, 100) {
			t.Errorf("%d keys have %d rows", n, rows)
		}
		if more != "" && !strings.Contains(text(page), more) || more == "" && strings.Contains(page, "more key") {
			t.Errorf("%d keys: %s", n, text(page))
		}
		if n == 400 && !strings.Contains(text(page), "and 34 more policies.") {
			t.Error("the page does not say how many more need attention")
		}
	}
}

// The policies of keyed.Config.Keys have cards of their own, with the key.
func TestGroup_exceptions(t *testing.T) {
	own := newBreaker(clock.NewMock(), "own")
	g := newGroup(t, newBreaker(clock.NewMock(), "all"), keyed.Config{Name: "g", Keys: map[string]resilience.Policy{"special": own}})
	run(t, g.For("special"), fail)
	r := asJSON(t, g)
	if len(r.Policies) != 2 || r.Policies[1].Key != "special" || r.Policies[1].State != "OPEN" || r.Policies[1].Template {
		t.Errorf("got %+v", r.Policies)
	}
}

// A request changes no counter and no state.
func TestHandler_changesNothing(t *testing.T) {
	mock := clock.NewMock()
	tries := resilience.Must(retry.New(retry.Config{Clock: mock, BaseDelay: retry.NoDelay}))
	b := newBreaker(mock, "b")
	slots := resilience.Must(bulkhead.New(bulkhead.Config{}))
	g := newGroup(t, resilience.Compose(tries, b, slots), keyed.Config{Max: 10})
	for i := range 12 {
		run(t, g.For(fmt.Sprint(i)), []resilience.Func{succeed, fail}[i%2])
	}
	stats := func() string {
		return fmt.Sprintf("%+v %+v %+v %+v", tries.Stats(), b.Explain(), slots.Stats(), g.Stats())
	}
	was := stats()
	h := debug.Handler(g)
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
		answer(t, h, method, url)
		answer(t, h, method, url+"?format=json")
	}
	if now := stats(); now != was {
		t.Errorf("was %s\nnow %s", was, now)
	}
}

// The JSON has the fields that the package documents, and no others.
func TestHandler_schema(t *testing.T) {
	b := newBreaker(clock.NewMock(), "b")
	run(t, b, fail)
	b.SetMode(breaker.MetricsOnly)
	g := hosts(t, clock.NewMock(), 3)
	got := map[string]bool{}
	fields(t, "", answer(t, debug.Handler(b, g, &quota{}, &policy{}, &says{func() string { panic("x") }}), "GET", url+"?format=json").Body.Bytes(), got)
	policyFields := "kind name group key template state attention mode since since_seconds why next retry_at retry_in_seconds settings values history"
	want := map[string]bool{}
	add := func(prefix, names string) {
		for name := range strings.FieldsSeq(names) {
			want[prefix+name] = true
		}
	}
	add("", "time summary policies groups others faults")
	add("summary.", "text attention modes states")
	add("others.", "type text")
	add("groups.", policyFields+" states keys")
	add("groups.values.", "name labels value max")
	add("groups.keys.", "key policies")
	for _, at := range []string{"policies.", "groups.keys.policies."} {
		add(at, policyFields)
		add(at+"values.", "name labels value max")
		add(at+"history.", "time from to mode reason failures calls delay_seconds error")
	}
	for f := range got {
		if !want[f] {
			t.Errorf("the JSON has the field %s", f)
		}
	}
	for _, f := range []string{
		"time", "summary.text", "summary.attention", "summary.modes", "summary.states", "faults", "others.type", "groups.keys.key",
		"groups.states", "policies.kind", "policies.name", "policies.group", "policies.template", "policies.state", "policies.attention",
		"policies.mode", "policies.since", "policies.why", "policies.next", "policies.settings", "policies.values.labels",
		"policies.values.max", "policies.history.delay_seconds", "policies.history.error", "groups.keys.policies.key",
		"groups.keys.policies.retry_at", "groups.keys.policies.retry_in_seconds",
	} {
		if !got[f] {
			t.Errorf("the JSON lacks the field %s", f)
		}
	}
}

// All keys share a policy that is not a Forker, so its card is no template's: it has the
// state and the gauges. A Forker that returns itself serves calls after the first key.
func TestCard_sharedByAllKeys(t *testing.T) {
	report := resilience.Report{Kind: "quota", Name: "api", State: "EMPTY", Attention: true, Values: []resilience.Value{{Name: "left", Value: 4}}}
	for name, template := range map[string]resilience.Policy{
		"not a Forker":      &reports{report: report},
		"returns itself":    &returnsItself{reports{report: report}},
		"beside a template": resilience.Compose(newBreaker(nil, "b"), &reports{report: report}),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, template, keyed.Config{Name: "g"})
			run(t, g.For("a"), succeed)
			r := asJSON(t, g)
			quota := r.Policies[len(r.Policies)-1]
			if quota.Template || quota.State != "EMPTY" || !quota.Attention || quota.value(t, "left", "") != 4 || r.Summary.Attention != 1 {
				t.Errorf("got %+v", quota)
			}
			if quota.Group == nil || *quota.Group != "g" || quota.Key != "" {
				t.Errorf("group %v, key %q", quota.Group, quota.Key)
			}
		})
	}
}

// returnsItself is a Forker without state of its own.
type returnsItself struct{ reports }

func (r *returnsItself) Fork(string) resilience.Policy { return r }
