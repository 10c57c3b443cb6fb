package breaker_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// with is a breaker with these rules that stays open for a minute.
func with(t *testing.T, rules ...breaker.Rule) *rig {
	t.Helper()
	return newRig(t, breaker.Config{Name: "users", Trip: rules, OpenFor: time.Minute, CloseAfter: 1})
}

// TestRate_exactPercentage: for each p exactly p failures in 100 open Rate{p, 100}, and
// p-1 do not.
func TestRate_exactPercentage(t *testing.T) {
	for p := 1; p <= 100; p++ {
		for _, failures := range []int{p - 1, p} {
			r := with(t, breaker.Rate{Failures: p, Of: 100})
			for i := range 100 {
				if i < 100-failures {
					_ = r.run(nil)
				} else {
					_ = r.run(errDown)
				}
			}
			if open := r.State() == breaker.Open; open != (failures == p) {
				t.Errorf("%d failures of 100 at FailureRate(%d, 100): open is %v", failures, p, open)
			}
		}
	}
}

// TestRate_fourOfSeven: Rate{4, 7} opens at the fourth failure.
func TestRate_fourOfSeven(t *testing.T) {
	r := with(t, breaker.Rate{Failures: 4, Of: 7})
	for range 3 {
		_ = r.run(errDown)
	}
	r.want(breaker.Closed)
	_ = r.run(errDown)
	r.want(breaker.Open)
}

// TestRate_overAtLeast: a Rate with Over opens at its share of at least AtLeast calls.
func TestRate_overAtLeast(t *testing.T) {
	for _, tt := range []struct {
		failed, ok int
		want       breaker.State
	}{
		{9, 0, breaker.Closed}, // too few
		{10, 0, breaker.Open},
		{5, 5, breaker.Open},
		{4, 6, breaker.Closed},
		{49, 51, breaker.Closed},
	} {
		r := with(t, breaker.Rate{Failures: 5, Of: 10, Over: 10 * time.Second})
		for range tt.ok {
			_ = r.run(nil)
		}
		for range tt.failed {
			_ = r.run(errDown)
		}
		if r.State() != tt.want {
			t.Errorf("%d failures and %d successes: %v", tt.failed, tt.ok, r.State())
		}
	}
}

// TestRate_successOpens: a success that makes AtLeast opens, with the last error.
func TestRate_successOpens(t *testing.T) {
	r := with(t, breaker.Rate{Failures: 5, Of: 10, Over: 10 * time.Second})
	for range 9 {
		_ = r.run(errDown)
	}
	r.want(breaker.Closed)
	_ = r.run(nil)
	r.want(breaker.Open)
	if e := r.seen[0]; e.Err != errDown || e.Failures != 9 || e.Calls != 10 {
		t.Errorf("event %+v", e)
	}
}

// TestRate_failuresLeaveWindow: failures leave the window.
func TestRate_failuresLeaveWindow(t *testing.T) {
	r := with(t, breaker.Rate{Failures: 5, Of: 10, Over: 10 * time.Second})
	for range 9 {
		_ = r.run(errDown)
	}
	r.clock.add(10 * time.Second)
	_ = r.run(errDown)
	r.want(breaker.Closed)
}

// TestRate_eightAtOnceAfterIdleness: after idleness eight failures at one instant are
// all counted.
func TestRate_eightAtOnceAfterIdleness(t *testing.T) {
	for range 200 {
		r := with(t, breaker.Rate{Failures: 8, Of: 8, Over: time.Second})
		_ = r.run(nil)
		r.clock.add(time.Hour)
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { <-begin; _ = r.run(errDown) })
		}
		close(begin)
		all.Wait()
		r.want(breaker.Open)
	}
}

// TestRate_clockSetBack: a clock that is set back neither freezes a window nor counts
// twice.
func TestRate_clockSetBack(t *testing.T) {
	r := with(t, breaker.Rate{Failures: 4, Of: 4, Over: time.Second})
	r.clock.add(time.Hour)
	for range 3 {
		_ = r.run(errDown)
	}
	r.clock.add(-30 * time.Minute)
	_ = r.run(errDown) // the first in a new window
	r.want(breaker.Closed)
	for range 3 {
		_ = r.run(errDown)
	}
	r.want(breaker.Open)
}

// TestSlow_successOrFailure: slow calls open whether they fail or not.
func TestSlow_successOrFailure(t *testing.T) {
	for name, err := range map[string]error{"success": nil, "failure": errDown} {
		t.Run(name, func(t *testing.T) {
			r := with(t, breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 4, Over: time.Minute})
			for _, took := range []time.Duration{0, time.Second, 2 * time.Second} {
				r.took(took, err)
			}
			r.want(breaker.Closed) // one of three: a second is not longer than a second
			r.took(time.Second+1, err)
			r.want(breaker.Open)
			if e := r.seen[0]; e.Failures != 2 || e.Calls != 4 || e.Err != err {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// TestSlow_several: each Slow rule has its own LongerThan.
func TestSlow_several(t *testing.T) {
	r := with(t, breaker.Slow{LongerThan: 4 * time.Second, Calls: 2, Of: 2, Over: time.Minute}, breaker.Slow{LongerThan: time.Second, Calls: 3, Of: 3, Over: time.Minute})
	for range 3 {
		r.took(2*time.Second, nil)
	}
	r.want(breaker.Open)
	if got := r.seen[0].Reason; got != "Slow{LongerThan: time.Second, Calls: 3, Of: 3, Over: time.Minute}" {
		t.Errorf("opened by %s", got)
	}
}

// TestSlow_probe: a slow probe is a failure.
func TestSlow_probe(t *testing.T) {
	r := with(t, breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: time.Minute})
	r.took(2*time.Second, nil)
	r.took(2*time.Second, nil)
	r.clock.add(time.Minute)
	r.took(2*time.Second, nil)
	r.want(breaker.Open)
	r.clock.add(time.Minute)
	r.took(time.Second, nil)
	r.want(breaker.Closed)
	if s := r.Stats(); s.Successes != 4 || s.Failures != 0 {
		t.Errorf("a slow call that succeeded is counted as %+v", s)
	}
}

// took makes a call that takes so long.
func (r *rig) took(d time.Duration, err error) {
	_ = r.runFunc(func() error { r.clock.add(d); return err })
}

// TestRule_ignoredCalls: ignored calls are counted by no rule.
func TestRule_ignoredCalls(t *testing.T) {
	rejected := &resilience.Rejection{Policy: "inner"}
	r := with(t, breaker.Rate{Failures: 1, Of: 2}, breaker.Rate{Failures: 1, Of: 2, Over: time.Second}, breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 2, Over: time.Minute})
	for range 10 {
		r.took(time.Minute, rejected)
	}
	for _, c := range r.Rules() {
		if c.Hits != 0 || c.Calls != 0 {
			t.Errorf("%v has counted %d of %d", c.Rule, c.Hits, c.Calls)
		}
	}
	r.want(breaker.Closed)
}

// TestRule_anyOpens: any of several rules opens, and the event has its text.
func TestRule_anyOpens(t *testing.T) {
	rules := []breaker.Rule{breaker.Consecutive{Failures: 5}, breaker.Rate{Failures: 6, Of: 10}, breaker.Rate{Failures: 90, Of: 100, Over: time.Minute, AtLeast: 8}}
	for want, results := range map[string]string{
		"Consecutive{Failures: 5}":                                   "sssssssssssfffff",
		"Rate{Failures: 6, Of: 10}":                                  "ssssssfffsffsf",
		"Rate{Failures: 90, Of: 100, Over: time.Minute, AtLeast: 8}": "ffffsffffffffff",
		"": "sssssssffsssssffsssss",
	} {
		r := with(t, rules...)
		if strings.Contains(want, "Over:") {
			r = with(t, rules[2], breaker.Consecutive{Failures: 50})
		}
		for _, c := range results {
			if c == 'f' {
				_ = r.run(errDown)
			} else {
				_ = r.run(nil)
			}
		}
		got := ""
		if len(r.seen) > 0 {
			got = r.seen[0].Reason
		}
		if got != want {
			t.Errorf("%s: opened by %q, want %q", results, got, want)
		}
	}
}

// TestRejection_detail: a rejection has the counts in Detail.
func TestRejection_detail(t *testing.T) {
	for want, make := range map[string]func(t *testing.T) *rig{
		"Consecutive{Failures: 2}: 2 failed in a row": func(t *testing.T) *rig { return with(t, breaker.Consecutive{Failures: 2}) },
		"Rate{Failures: 2, Of: 4}: 2 of 2 calls failed": func(t *testing.T) *rig {
			return with(t, breaker.Rate{Failures: 2, Of: 4})
		},
		"Rate{Failures: 1, Of: 2, Over: time.Second}: 2 of 2 calls failed": func(t *testing.T) *rig {
			return with(t, breaker.Rate{Failures: 1, Of: 2, Over: time.Second})
		},
		"Slow{LongerThan: time.Second, Calls: 1, Of: 2, Over: time.Minute}: 2 of 2 calls slow": func(t *testing.T) *rig {
			return with(t, breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 2, Over: time.Minute})
		},
	} {
		r := make(t)
		r.took(2*time.Second, errDown)
		r.took(2*time.Second, errDown)
		if strings.Contains(want, "Over: time.Second") {
			_ = r.run(errDown)
			_ = r.run(errDown)
		}
		var rejection *resilience.Rejection
		if err := r.run(nil); !errors.As(err, &rejection) || rejection.Detail != want || rejection.Cause != errDown || !strings.Contains(err.Error(), want) {
			t.Errorf("rejected with %v, want %q in it", err, want)
		}
	}
}

// TestRules_counts: Rules returns the counts of each rule.
func TestRules_counts(t *testing.T) {
	r := with(t, breaker.Consecutive{Failures: 9}, breaker.Rate{Failures: 9, Of: 10}, breaker.Rate{Failures: 18, Of: 20, Over: time.Second})
	for _, err := range []error{nil, errDown, nil, errDown, errDown} {
		_ = r.run(err)
	}
	want := []breaker.RuleStats{
		{Rule: breaker.Consecutive{Failures: 9}, Hits: 2},
		{Rule: breaker.Rate{Failures: 9, Of: 10}, Hits: 3, Calls: 5},
		{Rule: breaker.Rate{Failures: 18, Of: 20, Over: time.Second}, Hits: 3, Calls: 5},
	}
	if got := r.Rules(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	r.SetMode(breaker.ForcedOpen)
	if got := r.Rules(); got != nil {
		t.Errorf("in OPEN: %+v", got)
	}
}

// TestIdle_onTheWay: a breaker that is more than half of the way to opening is not
// idle.
func TestIdle_onTheWay(t *testing.T) {
	for _, tt := range []struct {
		rule  breaker.Rule
		calls string
		idle  bool
	}{
		{breaker.Consecutive{Failures: 4}, "ff", true},
		{breaker.Consecutive{Failures: 4}, "fff", false},
		{breaker.Rate{Failures: 4, Of: 10}, "sffs", true},
		{breaker.Rate{Failures: 4, Of: 10}, "sfffs", false},
		{breaker.Silence{Failures: 7, Span: 30 * time.Second}, "ffff.........", false},
		{breaker.Silence{Failures: 7, Span: 30 * time.Second}, "ffff..........", true},
		{breaker.Rate{Failures: 4, Of: 10}, "sfff.........sss", false},
		{breaker.Rate{Failures: 4, Of: 10}, "sfff...........s", true},
		{breaker.Rate{Failures: 5, Of: 10, Over: 5 * time.Second}, "fffff", true},
		{breaker.Rate{Failures: 5, Of: 10, Over: 5 * time.Second}, "ffffff", false},
		{breaker.Rate{Failures: 5, Of: 10, Over: 5 * time.Second}, "sssssssff", true},
	} {
		r := with(t, tt.rule)
		for _, c := range tt.calls {
			switch c {
			case 'f':
				_ = r.run(errDown)
			case 's':
				_ = r.run(nil)
			default:
				r.clock.add(time.Second)
			}
		}
		if got := r.Idle(); got != tt.idle {
			t.Errorf("%v after %s: idle is %v", tt.rule, tt.calls, got)
		}
		r.clock.add(time.Minute)
		if !r.Idle() {
			t.Errorf("%v after %s and a minute is not idle", tt.rule, tt.calls)
		}
	}
}

// TestRate_sleepingCall: a call that slept for a window opens with the counts it held
// by.
//
// One call reads the clock, others move the window by its length, and then the first
// call continues.
func TestRate_sleepingCall(t *testing.T) {
	r := with(t, breaker.Rate{Failures: 50, Of: 100, Over: time.Second, AtLeast: 3})
	r.clock.afterRead = func() {
		r.clock.afterRead = nil
		r.clock.add(time.Minute)
		_, _ = r.run(errDown), r.run(errDown)
	}
	_ = r.run(errDown)
	if len(r.seen) == 0 {
		t.Fatal("does not open")
	}
	if e := r.seen[0]; e.Failures != 3 || e.Calls != 3 {
		t.Errorf("opened by %d of %d, want 3 of 3", e.Failures, e.Calls)
	}
}

// TestSlow_oldFailure: a failure that has left the window is not the cause of a Slow
// rule.
func TestSlow_oldFailure(t *testing.T) {
	r := with(t, breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: time.Minute})
	_ = r.run(errDown)
	r.clock.add(56 * time.Second)
	r.took(2*time.Second, nil)
	r.took(2*time.Second, nil) // a minute after the failure
	r.want(breaker.Open)
	if e := r.seen[0]; e.Err != nil {
		t.Errorf("it opened because of %v", e.Err)
	}
}

// TestRule_String: a rule is written as a Go literal, so that it can be copied.
func TestRule_String(t *testing.T) {
	for want, r := range map[string]breaker.Rule{
		"Silence{Failures: 7, Span: time.Second}":                                      breaker.Silence{Failures: 7, Span: time.Second},
		"Silence{Failures: 7, Span: 1500*time.Millisecond}":                            breaker.Silence{Failures: 7, Span: 1500 * time.Millisecond},
		"Silence{Failures: 7, Span: 90*time.Second}":                                   breaker.Silence{Failures: 7, Span: 90 * time.Second},
		"Silence{Failures: 7, Span: 1500*time.Nanosecond}":                             breaker.Silence{Failures: 7, Span: 1500},
		"Consecutive{Failures: 5}":                                                     breaker.Consecutive{Failures: 5},
		"Rate{Failures: 2, Of: 3}":                                                     breaker.Rate{Failures: 2, Of: 3},
		"Rate{Failures: 2, Of: 3, Over: 10*time.Minute, AtLeast: 20}":                  breaker.Rate{Failures: 2, Of: 3, Over: 10 * time.Minute, AtLeast: 20},
		"Slow{LongerThan: 250*time.Microsecond, Calls: 1, Of: 2, Over: time.Hour}":     breaker.Slow{LongerThan: 250 * time.Microsecond, Calls: 1, Of: 2, Over: time.Hour},
		"Slow{LongerThan: time.Minute, Calls: 1, Of: 2, Over: time.Hour, AtLeast: 99}": breaker.Slow{LongerThan: time.Minute, Calls: 1, Of: 2, Over: time.Hour, AtLeast: 99},
		"Rate{}": breaker.Rate{},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
