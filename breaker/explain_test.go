package breaker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

const (
	opened  = "Consecutive{Failures: 2}: 2 failed in a row, after: down"
	probing = breaker.CauseOpenTimeOver + "; it opened 1m0s ago on " + opened
)

// TestExplain_statesAndModes: Explain has the cause and the next step in each state and
// mode.
func TestExplain_statesAndModes(t *testing.T) {
	closed := func(*rig) {}
	open := func(r *rig) { r.trip(); r.clock.add(400 * time.Millisecond) }
	over := func(r *rig) { r.trip(); r.clock.add(time.Minute) }
	probe := func(r *rig) { over(r); _ = r.permit() }
	half := func(r *rig) { over(r); _, _ = r.run(nil), r.run(nil); _ = r.permit() }
	in := func(m breaker.Mode, before func(*rig)) func(*rig) {
		return func(r *rig) { before(r); r.SetMode(m) }
	}
	const (
		untilOpen = "admits every call; opens on Consecutive{Failures: 2} (0 failed in a row so far)"
		untilOver = "rejects every call for another 600ms; the next call after that is the probe"
		forced    = "rejects every call until SetMode(Auto), which resumes "
		disabled  = "admits every call and counts no failures until SetMode(Auto), which resumes "
		next      = "admits the next call as the probe and rejects others until it has ended"
		shadow    = "; MetricsOnly admits them"
		untilRule = "opens on Consecutive{Failures: 2} (0 failed in a row so far)"
	)
	for name, tt := range map[string]struct {
		set       func(*rig)
		why, next string
	}{
		"CLOSED":            {closed, "it has never opened", untilOpen},
		"CLOSED, a failure": {func(r *rig) { _ = r.run(errDown) }, "it has never opened", strings.Replace(untilOpen, "0 failed", "1 failed", 1)},
		"CLOSED again":      {func(r *rig) { over(r); r.Reset() }, breaker.CauseReset, untilOpen},
		"CLOSED by itself":  {func(r *rig) { over(r); _, _, _, _ = r.run(nil), r.run(nil), r.run(nil), r.run(nil) }, breaker.CauseEnoughSuccesses, untilOpen},
		"OPEN":              {open, opened, untilOver},
		"OPEN again": {func(r *rig) {
			r.trip()
			r.clock.add(time.Second)
			_ = r.run(errDown)
			r.clock.add(-time.Second)
			r.clock.add(1400 * time.Millisecond)
		}, "a probe failed, after: down; it opened 1.4s ago on " + opened, untilOver},
		"open time over":    {over, probing, next},
		"probe in flight":   {probe, probing, "admits 1 call at a time, of which 1 in flight, and rejects others; 4 more successes close it, failures that use up the credit of 1 open it"},
		"HALF_OPEN":         {half, probing, "admits 3 calls at a time, of which 1 in flight, and rejects others; 2 more successes close it, " + untilRule},
		"HALF_OPEN, almost": {func(r *rig) { half(r); _ = r.run(nil) }, probing, "admits 4 calls at a time, of which 1 in flight, and rejects others; 1 more success closes it, " + untilRule},
		"HALF_OPEN, a failure": {
			func(r *rig) { half(r); _ = r.run(errDown) }, probing,
			"admits 3 calls at a time, of which 1 in flight, and rejects others; 2 more successes close it, " +
				strings.Replace(untilRule, "0 failed", "1 failed", 1),
		},
		"OPEN by the rule": {
			func(r *rig) { half(r); r.trip(); r.clock.add(400 * time.Millisecond) },
			opened + "; it opened 1m0s ago on " + opened, untilOver,
		},

		"ForcedOpen, CLOSED":         {in(breaker.ForcedOpen, closed), "SetMode(ForcedOpen)", forced + "CLOSED"},
		"ForcedOpen, OPEN":           {in(breaker.ForcedOpen, open), "SetMode(ForcedOpen)", forced + "OPEN"},
		"ForcedOpen, open time over": {in(breaker.ForcedOpen, over), "SetMode(ForcedOpen)", forced + "HALF_OPEN"},
		"ForcedOpen, HALF_OPEN":      {in(breaker.ForcedOpen, half), "SetMode(ForcedOpen)", forced + "HALF_OPEN"},
		"ForcedOpen, Disabled":       {in(breaker.ForcedOpen, in(breaker.Disabled, open)), "SetMode(ForcedOpen)", forced + "OPEN"},

		"Disabled, CLOSED":    {in(breaker.Disabled, closed), "SetMode(Disabled)", disabled + "CLOSED"},
		"Disabled, OPEN":      {in(breaker.Disabled, open), "SetMode(Disabled)", disabled + "OPEN"},
		"Disabled, HALF_OPEN": {in(breaker.Disabled, half), "SetMode(Disabled)", disabled + "HALF_OPEN"},
		"Disabled, ForcedOpen": {
			func(r *rig) {
				open(r)
				r.SetMode(breaker.ForcedOpen)
				r.clock.add(time.Hour)
				r.SetMode(breaker.Disabled)
			},
			"SetMode(Disabled)", disabled + "HALF_OPEN",
		},

		"MetricsOnly, CLOSED":         {in(breaker.MetricsOnly, closed), "it has never opened", untilOpen},
		"MetricsOnly, OPEN":           {in(breaker.MetricsOnly, open), opened, "would reject every call for another 600ms" + shadow + "; the next call after that is the probe"},
		"MetricsOnly, open time over": {in(breaker.MetricsOnly, over), probing, "would admit the next call as the probe and would reject others until it has ended" + shadow},
		"MetricsOnly, HALF_OPEN": {
			in(breaker.MetricsOnly, half), probing,
			"would admit 3 calls at a time, of which 0 in flight, and would reject others" + shadow + "; 2 more successes close it, " + untilRule,
		},

		"Auto after ForcedOpen, CLOSED": {in(breaker.Auto, in(breaker.ForcedOpen, closed)), "SetMode(Auto)", untilOpen},
		"Auto after ForcedOpen, OPEN":   {in(breaker.Auto, in(breaker.ForcedOpen, open)), opened, untilOver},
		"Auto after Disabled, OPEN":     {in(breaker.Auto, in(breaker.Disabled, open)), "SetMode(Auto); it opened 400ms ago on " + opened, untilOver},
		"Auto after ForcedOpen, HALF_OPEN": {
			in(breaker.Auto, in(breaker.ForcedOpen, half)), "SetMode(Auto); it opened 1m0s ago on " + opened,
			"admits 3 calls at a time, of which 0 in flight, and rejects others; 2 more successes close it, " + untilRule,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{Name: "users", Trip: quick.Trip, OpenFor: time.Second, CloseAfter: 4})
			tt.set(r)
			x := r.Explain()
			if got := x.Why(); got != tt.why {
				t.Errorf("why:\n%s\nwant\n%s", got, tt.why)
			}
			if got := x.Next(); got != tt.next {
				t.Errorf("next:\n%s\nwant\n%s", got, tt.next)
			}
			if got := x.String(); !strings.Contains(got, "\nwhy:  "+tt.why+"\n") || !strings.Contains(got, "\nnext: "+tt.next) || strings.HasSuffix(got, "\n") {
				t.Errorf("all of it:\n%s", got)
			}
			if x.Name != "users" || !x.Time.Equal(r.clock.Now()) || x.Stats != r.Stats() || len(x.Rules) != len(r.Rules()) {
				t.Errorf("%+v", x)
			}
		})
	}
}

// TestExplain_forkOfForcedOpen: a fork that started in ForcedOpen explains that.
func TestExplain_forkOfForcedOpen(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.ForcedOpen)
	x := r.Fork("a.example").(*breaker.Breaker).Explain()
	want := `breaker "q" for "a.example": OPEN for 0s, since 2001-09-09 01:46:40.000 UTC, in ForcedOpen
why:  SetMode(ForcedOpen)
next: rejects every call until SetMode(Auto), which resumes CLOSED`
	if got := x.String(); got != want || x.Key != "a.example" {
		t.Errorf("says\n%s\nwant\n%s", got, want)
	}
}

// TestExplain_since: a state is explained with the time at which it began.
func TestExplain_since(t *testing.T) {
	const opened, over = "OPEN for 500ms, since 2001-09-09 01:46:40.001", "HALF_OPEN for 1h0m0s, since 2001-09-09 01:46:41.001"
	r := newRig(t, quick)
	check := func(want string) {
		t.Helper()
		if got := r.Explain().String(); !strings.HasPrefix(got, `breaker "q": `+want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	check("CLOSED for 0s, since 2001-09-09 01:46:40.000")
	r.trip()
	r.clock.add(500 * time.Millisecond)
	check(opened)
	r.SetMode(breaker.MetricsOnly) // it stays open
	check(opened)
	if s := r.Stats(); !s.Since.Equal(r.clock.Now()) {
		t.Errorf("the mode was set at %v, Since is %v", r.clock.Now(), s.Since)
	}
	r.SetMode(breaker.Auto)
	r.clock.add(time.Hour)
	check(over)
	if got := r.Stats().Since.Sub(time.Unix(1e9, 0)); got != 1001*time.Millisecond {
		t.Errorf("Since is %v", got)
	}
	r.SetMode(breaker.ForcedOpen)
	check("OPEN for 0s, since 2001-09-09 02:46:40.501")
	r.SetMode(breaker.Auto)
	check("HALF_OPEN for 0s, since 2001-09-09 02:46:40.501")
	_ = r.permit()
	r.clock.add(time.Minute)
	check("HALF_OPEN for 1m0s, since 2001-09-09 02:46:40.501")
}

// TestExplain_rules: in CLOSED, Explain has the counts of the rules.
func TestExplain_rules(t *testing.T) {
	r := newRig(t, breaker.Config{OpenFor: time.Minute, Trip: []breaker.Rule{
		breaker.Silence{Failures: 7, Span: time.Second}, breaker.Rate{Failures: 3, Of: 6}, breaker.Rate{Failures: 60, Of: 100, Over: time.Minute, AtLeast: 4}, breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 4, Over: time.Minute},
	}})
	none := "admits every call; opens on Silence{Failures: 7, Span: time.Second} (0 failed in a row so far) or Rate{Failures: 3, Of: 6} (no calls so far) or " +
		"Rate{Failures: 60, Of: 100, Over: time.Minute, AtLeast: 4} (no calls so far) or Slow{LongerThan: time.Second, Calls: 2, Of: 4, Over: time.Minute} (no calls so far)"
	if got := r.Explain().Next(); got != none {
		t.Errorf("got %s\nwant %s", got, none)
	}
	_ = r.runFunc(func() error { r.clock.add(2 * time.Second); return nil })
	_ = r.run(errDown)
	some := "admits every call; opens on Silence{Failures: 7, Span: time.Second} (1 failed in a row so far) or Rate{Failures: 3, Of: 6} (1 of 2 calls failed so far) or " +
		"Rate{Failures: 60, Of: 100, Over: time.Minute, AtLeast: 4} (1 of 2 calls failed so far) or Slow{LongerThan: time.Second, Calls: 2, Of: 4, Over: time.Minute} (1 of 2 calls slow so far)"
	if got := r.Explain().Next(); got != some {
		t.Errorf("got %s\nwant %s", got, some)
	}
}

// TestExplain_slowWithoutError: slow calls without an error are explained.
func TestExplain_slowWithoutError(t *testing.T) {
	r := with(t, breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 1, Over: time.Minute})
	_ = r.runFunc(func() error { r.clock.add(2 * time.Second); return nil })
	if got := r.Explain().Why(); got != "Slow{LongerThan: time.Second, Calls: 1, Of: 1, Over: time.Minute}: 1 of 1 calls slow" {
		t.Errorf("got %s", got)
	}
}

// TestExplain_clockSetBack: with a clock that was set back the explanation agrees with
// the state.
func TestExplain_clockSetBack(t *testing.T) {
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	r.trip()
	r.clock.add(-time.Hour)
	x := r.Explain()
	if want := strings.Replace(probing, "1m0s", "0s", 1); x.Why() != want || x.Stats.State != breaker.HalfOpen || r.PresentOpen() != 0 {
		t.Errorf("got %s", x)
	}
	if !x.Stats.Since.Equal(x.History[0].Time) { // and not when it would have been over
		t.Errorf("in its state since %v, opened at %v", x.Stats.Since, x.History[0].Time)
	}
	r.clock.add(time.Hour)
	r.SetMode(breaker.Disabled)
	for back, under := range map[time.Duration]string{0: "OPEN", time.Hour: "HALF_OPEN"} {
		r.clock.add(-back)
		if got := r.Explain().Next(); !strings.HasSuffix(got, "which resumes "+under) {
			t.Errorf("%v back: got %s", back, got)
		}
		r.clock.add(back)
	}
	r.clock.add(r.Explain().History[0].OpenFor) // at that instant it is over
	if got := r.Explain().Next(); !strings.HasSuffix(got, "which resumes HALF_OPEN") {
		t.Errorf("got %s", got)
	}
}

// TestExplain_lastOutage: HALF_OPEN is explained with the last outage.
func TestExplain_lastOutage(t *testing.T) {
	r := newRig(t, quick)
	r.flap(errors.New("first"))
	r.flap(errors.New("second"))
	r.trip()
	r.clock.add(time.Second)
	_ = r.permit()
	if got, want := r.Explain().Why(), strings.Replace(probing, "1m0s", "1s", 1); got != want {
		t.Errorf("got %s", got)
	}
}

// TestExplain_noSecrets: an explanation has no secrets of URLs and no lines of an
// error.
func TestExplain_noSecrets(t *testing.T) {
	r := newRig(t, quick)
	err := errors.New("Get \"https://ann:hunter2@a.example/?token=abc\": two\nlines\u2028and \u202eback")
	_, _ = r.run(err), r.run(err)
	s := r.Explain().String()
	if n := strings.Count(s, "\n"); n != 4 || strings.Contains(s, "hunter2") || strings.Contains(s, "abc") || strings.ContainsAny(s, "\u2028\u202e") {
		t.Errorf("%d lines: %q", n+1, s)
	}
	var none *resilience.Rejection
	if errors.As(r.run(nil), &none); !strings.Contains(s, none.CauseText()) {
		t.Errorf("the rejection has %q, the explanation %q", none.CauseText(), s)
	}
}

// TestExplain_began: Began is the transition that started the outage, however many
// probes fail.
func TestExplain_began(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second, CloseAfter: 4})
	if x := r.Explain(); !x.Began.Time.IsZero() {
		t.Errorf("before: %+v", x.Began)
	}
	r.trip()
	first := r.Explain().History[0]
	for range 40 {
		r.clock.add(time.Second)
		_ = r.run(errDown)
	}
	x := r.Explain()
	if x.Began != first || len(x.History) != 16 || x.History[0] == first {
		t.Errorf("it began with %v, want %v; the oldest of %d is %v", x.Began, first, len(x.History), x.History[0])
	}
	r.SetMode(breaker.ForcedOpen)
	r.SetMode(breaker.Auto)
	if got := r.Explain().Began; got != first {
		t.Errorf("after SetMode it began with %v", got)
	}
	r.Reset()
	if x := r.Explain(); !x.Began.Time.IsZero() || x.Why() != breaker.CauseReset {
		t.Errorf("after Reset it began with %v, because of %s", x.Began, x.Why())
	}
}

// TestExplain_silenceInHalfOpen: a burst of timeouts opens HALF_OPEN before the Span is over.
func TestExplain_silenceInHalfOpen(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Silence{Failures: 2, Span: time.Second}}, OpenFor: time.Second})
	for range 2 {
		_ = r.run(errDown)
		r.clock.add(time.Second)
	}
	r.clock.add(time.Second)
	_ = r.run(nil)
	want := "opens on Silence{Failures: 2, Span: time.Second} (0 failed in a row so far); without its Span, if 2 or more failed in a row and the last timed out"
	if got := r.Explain().Next(); !strings.HasSuffix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestExplain_rateInHalfOpen: with a rule that counts more than failures in a row, every
// failure uses up credit.
func TestExplain_rateInHalfOpen(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Rate{Failures: 2, Of: 2}}, OpenFor: time.Second})
	r.trip()
	r.clock.add(time.Second)
	_ = r.run(nil)
	const want = "; 63 more successes close it, failures that use up the credit of 2 open it"
	if got := r.Explain().Next(); !strings.HasSuffix(got, want) {
		t.Errorf("next: %s", got)
	}
}
