package debug_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

func TestAnOpenBreakerSaysWhySinceWhenAndWhatIsNext(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	b := newBreaker(mock, "payments")
	run(t, b, succeed)
	run(t, b, fail)
	run(t, b, succeed)
	mock.Add(90 * time.Second)

	r := asJSON(t, b)
	if r.Summary.Text != "1 of 1 breaker is not CLOSED" || r.Summary.Breakers != 1 || r.Summary.NotClosed != 1 {
		t.Errorf("summary %+v", r.Summary)
	}
	got := r.Breakers[0]
	x := b.Explain()
	if got.Name != "payments" || got.State != "OPEN" || got.Mode != "" || got.Why != x.Why() || got.Next != x.Next() {
		t.Errorf("got %+v", got)
	}
	if got.Since != "2026-03-01T12:00:00Z" || got.SinceSeconds != 90 || got.RetryAt != "2026-03-01T13:00:00Z" ||
		got.RetryInSeconds != 3510 || got.OpenNow != 90 {
		t.Errorf("times %+v", got)
	}
	if len(got.History) != 1 || got.History[0].From != "CLOSED" || got.History[0].To != "OPEN" || got.History[0].OpenFor != 3600 ||
		got.History[0].Error != errDown.Error() || got.History[0].Reason != "Consecutive{Failures: 1}: 1 failed in a row" {
		t.Errorf("history %+v", got.History)
	}
	if got.Calls["successes"] != 1 || got.Calls["failures"] != 1 || got.Calls["rejected"] != 1 || got.Calls["opened"] != 1 {
		t.Errorf("calls %v", got.Calls)
	}
	page := text(asHTML(t, b))
	for _, want := range []string{
		r.Summary.Text, "payments OPEN for 1m30s", "Why" + got.Why, "Next" + got.Next, "2026-03-01 12:00:00.000 UTC, 1m30s ago",
		"1 succeeded, 1 failed, 0 ignored, 1 rejected", "1 time, for 1m30s in all", "CLOSED → OPEN",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

func TestEveryStateAndModeIsTold(t *testing.T) {
	mock := clock.NewMock()
	opened := func(name string, m breaker.Mode) *breaker.Breaker {
		b := newBreaker(mock, name)
		b.SetMode(m)
		run(t, b, fail)
		return b
	}
	half := resilience.Must(breaker.New(breaker.Config{
		Name: "half", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, Clock: mock,
	}))
	run(t, half, fail)
	mock.Add(time.Second)
	run(t, half, succeed)
	over := resilience.Must(breaker.New(breaker.Config{
		Name: "over", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, Clock: mock,
	}))
	run(t, over, fail)
	mock.Add(time.Minute)
	policies := []resilience.Policy{
		newBreaker(mock, "closed"), opened("open", breaker.Auto), half, over,
		opened("forced", breaker.ForcedOpen), opened("disabled", breaker.Disabled), opened("watched", breaker.MetricsOnly),
	}
	want := []string{"closed CLOSED ", "open OPEN ", "half HALF_OPEN ", "over HALF_OPEN ", "forced OPEN ForcedOpen", "disabled CLOSED Disabled", "watched OPEN MetricsOnly"}
	r, page := asJSON(t, policies...), text(asHTML(t, policies...))
	if r.Summary.Text != "5 of 7 breakers are not CLOSED; 3 in a mode other than Auto" || r.Summary.NotClosed != 5 || r.Summary.NotAuto != 3 {
		t.Errorf("summary %+v", r.Summary)
	}
	for i, b := range r.Breakers {
		if got := b.Name + " " + b.State + " " + b.Mode; got != want[i] {
			t.Errorf("got %q, want %q", got, want[i])
		}
		if !strings.Contains(page, want[i]) || !strings.Contains(page, b.Why) || !strings.Contains(page, b.Next) {
			t.Errorf("the page does not tell %q, %q, %q", want[i], b.Why, b.Next)
		}
	}
	if p := r.Breakers[2].Probing; p == nil || p.Credit != 2 || p.InFlight != 0 {
		t.Errorf("probing %+v", p)
	}
	if rules := r.Breakers[0].Rules; len(rules) != 1 || rules[0].Rule != "Consecutive{Failures: 1}" {
		t.Errorf("rules %+v", rules)
	}
	if strings.Index(page, "closed CLOSED") < strings.Index(page, "watched OPEN") || strings.Index(page, "disabled CLOSED") < strings.Index(page, "watched OPEN") {
		t.Error("what is CLOSED comes before what is not")
	}
}

func TestAnOutageSaysWhenItBeganHoweverManyProbesHaveFailedSince(t *testing.T) {
	mock := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "a", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, Clock: mock,
	}))
	mock.Add(time.Minute)
	run(t, b, fail)
	mock.Add(time.Millisecond)
	if page := text(asHTML(t, b)); strings.Contains(page, "ago; not CLOSED for") {
		t.Errorf("says twice since when:\n%s", page)
	}
	mock.Add(-time.Millisecond)
	for range 20 {
		mock.Add(time.Second)
		run(t, b, fail)
	}
	mock.Add(500 * time.Millisecond)
	got := asJSON(t, b).Breakers[0]
	if got.Began == nil || got.Began.Time != "1970-01-01T00:01:00Z" || got.Began.From != "CLOSED" || got.SinceSeconds != .5 {
		t.Errorf("got %+v", got)
	}
	want := "1970-01-01 00:01:20.000 UTC, 500ms ago; not CLOSED for 20.5s"
	if page := text(asHTML(t, b)); !strings.Contains(page, want) {
		t.Errorf("the page does not say %q:\n%s", want, page)
	}
	b.Reset()
	if got := asJSON(t, b).Breakers[0]; got.Began != nil {
		t.Errorf("closed, and yet %+v", got.Began)
	}
}

func TestAProbeThatIsLateIsShown(t *testing.T) {
	mock := clock.NewMock()
	b := newBreaker(mock, "b")
	run(t, b, fail)
	mock.Add(time.Hour)
	run(t, b, func(context.Context) error { mock.Add(time.Minute); return nil })
	if got := asJSON(t, b).Breakers[0].Calls; got["probes_late"] != 1 || got["probes_succeeded"] != 0 {
		t.Errorf("got %v", got)
	}
	if page := text(asHTML(t, b)); !strings.Contains(page, "0 succeeded, 0 failed, 0 ignored, 1 late") {
		t.Errorf("the page does not say it:\n%s", page)
	}
}

// The strip has each state in its place: what was before the first transition, the
// history, and HALF_OPEN that nobody has called yet.
func TestTheStripShowsTheStatesInOrder(t *testing.T) {
	mock := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "a", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, CloseAfter: 1, Clock: mock,
	}))
	for range 12 {
		run(t, b, fail)
		mock.Add(time.Second)
		run(t, b, succeed)
		mock.Add(time.Minute)
	}
	run(t, b, fail)
	mock.Add(2 * time.Second)
	page := asHTML(t, b)
	var states []string
	for part := range strings.SplitSeq(page, `<rect class="`) {
		state, _, _ := strings.Cut(part, `"`)
		states = append(states, state)
	}
	got := strings.Join(states[1:], " ")
	if want := strings.TrimSpace(strings.Repeat("CLOSED OPEN HALF_OPEN ", 6)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := asJSON(t, b); len(r.Breakers[0].History) != 16 || !strings.Contains(text(page), "Last 16 transitions") {
		t.Errorf("%d transitions", len(r.Breakers[0].History))
	}
	if want := "OPEN from 1970-01-01 00:12:12.000 UTC, for 1s: Consecutive{Failures: 1}: 1 failed in a row"; !strings.Contains(text(page), want) {
		t.Errorf("no tooltip says %q", want)
	}
}

func TestCountersOfTheOtherPolicies(t *testing.T) {
	tries := resilience.Must(retry.New(retry.Config{Name: "tries", BaseDelay: -1, Budget: 5}))
	free := resilience.Must(retry.New(retry.Config{Name: "free", Budget: -1}))
	for range 2 {
		run(t, tries, fail)
	}
	run(t, tries, succeed)
	places := resilience.Must(bulkhead.New(bulkhead.Config{Name: "places", Slots: 2, MaxQueue: -1}))
	limit := resilience.Must(timeout.New(timeout.Config{Name: "limit", Clock: clock.NewMock()}))
	run(t, limit, succeed)
	rates := resilience.Must(fallback.New(fallback.Config{Name: "rates", Handle: func(context.Context, error) error { return nil }}))
	run(t, rates, fail)
	var held report
	run(t, places, func(context.Context) error {
		run(t, places, func(context.Context) error {
			run(t, places, succeed)
			held = asJSON(t, tries, free, places, limit, rates, &policy{})
			page := text(asHTML(t, tries, free, places, limit, rates, &policy{}))
			for _, want := range []string{"2 of 2", "1 queue full", "1 out of budget", "There are no breakers yet", "*debug_test.policy"} {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not say %q:\n%s", want, page)
				}
			}
			for _, never := range []string{"waited too long", "past the deadline"} {
				if strings.Contains(page, never) {
					t.Errorf("the page says %q, which never happened", never)
				}
			}
			return nil
		})
		return nil
	})
	s := tries.Stats()
	if got := held.Retries[0]; got.Calls.FirstTry != 1 || got.Calls.Retries != 1 || got.Calls.Attempts != 4 ||
		got.Calls.Suppressed["out_of_budget"] != s.Stopped[retry.OutOfBudget] || len(got.Calls.Suppressed) != 9 ||
		got.Budget == nil || got.Budget.Level != int(s.Level) || got.Budget.Capacity != int(s.Capacity) {
		t.Errorf("retry %+v %+v, counted %+v", got.Calls, got.Budget, s)
	}
	if got := held.Retries[1]; got.Budget != nil {
		t.Errorf("a retry without a budget has %+v", got.Budget)
	}
	if got := held.Bulkheads[0]; got.InFlight != 2 || *got.Limit != 2 || got.Calls.Rejected["queue_full"] != 1 {
		t.Errorf("bulkhead %+v", got)
	}
	if got := held.Timeouts[0]; got.Calls != 1 || got.Name != "limit" {
		t.Errorf("timeout %+v", got)
	}
	if got := held.Fallbacks[0]; got.Used != 1 || got.Name != "rates" {
		t.Errorf("fallback %+v", got)
	}
	if got := held.Others; len(got) != 1 || got[0].Type != "*debug_test.policy" {
		t.Errorf("others %+v", got)
	}
}

func TestAPolicyIsShownOnceAndOneThatIsNilNotAtAll(t *testing.T) {
	b := newBreaker(nil, "once")
	u := &policy{}
	r := asJSON(t, nil, (*breaker.Breaker)(nil), resilience.Compose(u, b, b), b, resilience.Compose(b), u)
	if len(r.Breakers) != 1 || r.Summary.Breakers != 1 || len(r.Others) != 1 || len(r.Faults) != 0 {
		t.Errorf("got %+v", r)
	}
	if r := asJSON(t); r.Breakers == nil || r.Groups == nil || r.Limits == nil || r.Others == nil {
		t.Errorf("a list is null in %+v", r)
	}
}

func TestAnswersChangeNothing(t *testing.T) {
	mock := clock.NewMock()
	tries := resilience.Must(retry.New(retry.Config{Clock: mock, BaseDelay: -1}))
	b := newBreaker(mock, "b")
	places := resilience.Must(bulkhead.New(bulkhead.Config{}))
	g := newGroup(t, resilience.Compose(tries, b, places), keyed.Config{Max: 10})
	for i := range 12 {
		run(t, g.For(fmt.Sprint(i)), []resilience.Func{succeed, fail}[i%2])
	}
	stats := func() string {
		return fmt.Sprintf("%+v %+v %+v %+v", tries.Stats(), b.Explain(), places.Stats(), g.Stats())
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

// labels returns the values of a label that a metric has.
func labels(t *testing.T, p resilience.Policy, metric, label string) map[string]bool {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(resilience.Must(metrics.NewCollector(p)))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					all[l.GetValue()] = true
				}
			}
		}
	}
	return all
}

// Who has seen one of them in the metrics looks for it in the JSON, and the other way.
func TestReasonsHaveTheNamesOfTheMetrics(t *testing.T) {
	p := resilience.Compose(stack.Client("payments"), resilience.Must(limit.New(limit.Config{Name: "orders"})))
	r := asJSON(t, p)
	ofLimit := maps.Clone(r.Limits[0].Calls.Rejected)
	for _, outcome := range []string{"useful", "gone", "canceled"} {
		ofLimit[outcome] = 0 // which have fields of their own
	}
	for series, counts := range map[string]map[string]uint64{
		"resilience_retry_suppressed_total reason":  r.Retries[0].Calls.Suppressed,
		"resilience_bulkhead_rejected_total reason": r.Bulkheads[0].Calls.Rejected,
		"resilience_limit_calls_total outcome":      ofLimit,
		"resilience_limit_tests_total result":       r.Limits[0].Calls.Tests,
	} {
		metric, label, _ := strings.Cut(series, " ")
		want := labels(t, p, metric, label)
		for reason := range counts {
			if !want[reason] {
				t.Errorf("%q is no reason of %s", reason, metric)
			}
			delete(want, reason)
		}
		if len(want) > 0 {
			t.Errorf("of %s the JSON does not have %v", metric, want)
		}
	}
}
