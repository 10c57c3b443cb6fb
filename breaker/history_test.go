package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

// flap opens a closed quick breaker with err, and closes it.
func (r *rig) flap(err error) {
	r.t.Helper()
	_, _ = r.run(err), r.run(err)
	r.want(breaker.Open)
	r.clock.add(time.Second)
	if err := r.run(nil); err != nil {
		r.t.Fatal(err)
	}
	r.want(breaker.Closed)
}

func (r *rig) last() breaker.Transition {
	r.t.Helper()
	h := r.Explain().History
	if len(h) == 0 {
		r.t.Fatal("no transition is remembered")
	}
	return h[len(h)-1]
}

// TestHistory_last16: the last 16 transitions are kept, the oldest first.
func TestHistory_last16(t *testing.T) {
	r := newRig(t, quick)
	if h := r.Explain().History; len(h) != 0 {
		t.Errorf("at first: %v", h)
	}
	for n := range 12 { // 36 transitions
		r.flap(errDown)
		h := r.Explain().History
		if want := min(16, 3*(n+1)); len(h) != want {
			t.Fatalf("%d after %d, want %d", len(h), 3*(n+1), want)
		}
		if !slices.IsSortedFunc(h, func(a, b breaker.Transition) int { return a.Time.Compare(b.Time) }) {
			t.Fatalf("not in their order: %v", h)
		}
		if l := h[len(h)-1]; l.To != breaker.Closed || !l.Time.Equal(r.clock.Now()) {
			t.Fatalf("the last is %+v at %v", l, r.clock.Now())
		}
	}
}

// TestHistory_time: a transition has the time at which the state began.
func TestHistory_time(t *testing.T) {
	r := newRig(t, quick)
	r.clock.afterRead = func() { r.clock.add(time.Millisecond) }
	_, _ = r.run(errDown), r.run(errDown)
	if h, s := r.last(), r.Stats(); h.To != breaker.Open || !h.Time.Equal(s.Since) || !s.RetryAt.Equal(h.Time.Add(time.Second)) {
		t.Errorf("got %+v, counts %+v", h, s)
	}
}

// TestHistory_forks: a fork has its own history.
func TestHistory_forks(t *testing.T) {
	r := newRig(t, quick)
	f := r.Fork("a").(*breaker.Breaker)
	r.trip()
	if h := f.Explain().History; len(h) != 0 {
		t.Errorf("a fork remembers %v", h)
	}
	if h := r.Explain().History; len(h) != 1 {
		t.Errorf("the breaker remembers %v", h)
	}
}

// TestHistory_isACopy: the history that Explain returns belongs to the caller.
func TestHistory_isACopy(t *testing.T) {
	r := newRig(t, quick)
	r.flap(errDown)
	mine := r.Explain()
	before := slices.Clone(mine.History)
	r.flap(errDown)
	if !slices.Equal(mine.History, before) {
		t.Errorf("later transitions change it to %v", mine.History)
	}
	next := r.Explain()
	clear(next.History)
	_ = append(next.History[:0], breaker.Transition{Rule: "mine"})
	if again := r.Explain().History; !slices.Equal(again[:3], before) || again[3].Rule != "Consecutive{Failures: 2}" {
		t.Errorf("a caller sees the writes of another: %v", again)
	}
}

// TestHistory_counts: a transition has the counts of its rule.
func TestHistory_counts(t *testing.T) {
	const window = 10 * time.Second
	for name, tt := range map[string]struct {
		rule   breaker.Rule
		took   time.Duration
		errs   []error
		want   breaker.Transition
		reason string
	}{
		"in a row": {
			breaker.Consecutive{Failures: 2}, 0, []error{nil, errDown, errDown},
			breaker.Transition{Failures: 2, Error: "down"}, "Consecutive{Failures: 2}: 2 failed in a row",
		},
		"of the last": {
			breaker.Rate{Failures: 2, Of: 4}, 0, []error{nil, errDown, nil, errDown},
			breaker.Transition{Failures: 2, Calls: 4, Error: "down"}, "Rate{Failures: 2, Of: 4}: 2 of 4 calls failed",
		},
		"of a window": {
			breaker.Rate{Failures: 1, Of: 2, Over: window}, 0, []error{nil, errDown},
			breaker.Transition{Failures: 1, Calls: 2, Error: "down"}, "Rate{Failures: 1, Of: 2, Over: 10*time.Second}: 1 of 2 calls failed",
		},
		"slow without an error": {
			breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: window}, 2 * time.Second, []error{nil, nil},
			breaker.Transition{Failures: 2, Calls: 2, Slow: true}, "Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: 10*time.Second}: 2 of 2 calls slow",
		},
		"slow with an error": {
			breaker.Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: window}, 2 * time.Second, []error{errDown, nil},
			breaker.Transition{Failures: 2, Calls: 2, Slow: true, Error: "down"}, "Slow{LongerThan: time.Second, Calls: 2, Of: 2, Over: 10*time.Second}: 2 of 2 calls slow",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{Trip: []breaker.Rule{tt.rule}, OpenFor: time.Minute})
			r.SetMode(breaker.MetricsOnly)
			for _, err := range tt.errs {
				_ = r.runFunc(func() error { r.clock.add(tt.took); return err })
			}
			tt.want.Time, tt.want.To, tt.want.Mode = r.clock.Now(), breaker.Open, breaker.MetricsOnly
			tt.want.Rule, tt.want.OpenFor = tt.rule.String(), time.Minute
			got := r.last()
			if got != tt.want {
				t.Errorf("got\n%+v\nwant\n%+v", got, tt.want)
			}
			if got.Reason() != tt.reason {
				t.Errorf("got %q, want %q", got.Reason(), tt.reason)
			}
		})
	}
}

// TestHistory_sameTextAsRejection: a rejection and the history have the same texts.
func TestHistory_sameTextAsRejection(t *testing.T) {
	r := newRig(t, quick)
	secret := fmt.Errorf("Get \"https://ann:hunter2@a.example/?token=abc\": %s", strings.Repeat("€", 500))
	check := func() {
		t.Helper()
		rejection, ok := errors.AsType[*resilience.Rejection](r.run(nil))
		if !ok {
			t.Fatal("it is not rejected")
		}
		got := r.last()
		if got.Error != rejection.CauseText() || got.Reason() != rejection.Detail {
			t.Errorf("got %q and %q, the rejection is %v", got.Reason(), got.Error, rejection)
		}
		if len(got.Error) > 200 || strings.Contains(got.Error, "hunter2") || strings.Contains(got.Error, "abc") ||
			!strings.HasPrefix(got.Error, `Get "https://a.example/?…": €€€`) || !strings.HasSuffix(got.Error, "€…") {
			t.Errorf("%d bytes: %s", len(got.Error), got.Error)
		}
	}
	_, _ = r.run(secret), r.run(secret)
	check()
	r.clock.add(time.Second)
	_ = r.run(secret) // the probe
	check()
}

// TestBreaker_textOncePerEpisode: rejected calls, which may be many, do not make the text
// of the failure again: in OPEN, in HALF_OPEN, after a probe failed, and in another mode.
func TestBreaker_textOncePerEpisode(t *testing.T) {
	r := newRig(t, quick)
	made := 0
	err := textFunc(func() string { made++; return "Get https://ann:hunter2@a.example/: down" })
	reject := func() {
		t.Helper()
		before := made
		for range 10 {
			got := r.run(nil)
			if !errors.Is(got, breaker.ErrOpen) || !strings.HasSuffix(got.Error(), "last error: Get https://a.example/: down") {
				t.Errorf("got %v", got)
			}
		}
		if made > before {
			t.Errorf("the text was made %d times", made-before)
		}
	}
	_, _ = r.run(err), r.run(err)
	reject()
	r.clock.add(time.Second)
	probe := r.start(t.Context())
	reject()
	_ = probe.finish(err)
	reject()
	r.SetMode(breaker.Disabled)
	r.SetMode(breaker.Auto)
	reject()
	if made != 2 {
		t.Errorf("the text was made %d times in two episodes", made)
	}
}

// huge is an error of 64 KiB.
type huge [1 << 16]byte

func (*huge) Error() string { return "huge" }

// TestHistory_keepsNoErrors: the history keeps texts and no errors.
func TestHistory_keepsNoErrors(t *testing.T) {
	r := newRig(t, quick)
	var gone []weak.Pointer[huge]
	fail := func() error {
		err := new(huge)
		gone = append(gone, weak.Make(err))
		return r.run(err)
	}
	_, _ = fail(), fail()
	r.clock.add(time.Second)
	_ = fail() // opens again
	r.clock.add(time.Second)
	_ = r.run(nil)
	r.want(breaker.Closed)
	r.seen = nil // events have the errors
	r.forked = true
	runtime.GC()
	for i, p := range gone {
		if p.Value() != nil {
			t.Errorf("error %d is still there", i)
		}
	}
	if h := r.Explain().History; len(h) != 5 || h[0].Error != "huge" || h[2].Error != "huge" {
		t.Errorf("history %v", h)
	}
}

// TestHistory_bounded: thousands of transitions do not grow the history.
func TestHistory_bounded(t *testing.T) {
	c := quick
	c.Observer = observerFunc(func(context.Context, resilience.Event) {})
	r := newRig(t, c)
	flap := func(n int) {
		for i := range n {
			r.flap(fmt.Errorf("%d %s", i, strings.Repeat("x", 10_000)))
		}
	}
	flap(6)
	before := heap()
	flap(1000)
	if grown := heap() - before; grown > 256<<10 { // 85 bytes a transition
		t.Errorf("%d bytes more after 3000 transitions", grown)
	}
	runtime.KeepAlive(r)
}

// textFunc is an error whose Error method is the function.
type textFunc func() string

func (f textFunc) Error() string { return f() }

// TestBreaker_errorPanicsInText: an error whose text panics or exits still opens the
// breaker. The first failure opens by a rule, the others as probes.
func TestBreaker_errorPanicsInText(t *testing.T) {
	for name, abort := range testkit.Aborts("no text") {
		t.Run(name, func(t *testing.T) {
			announced := 0
			c := quick
			c.Observer = observerFunc(func(context.Context, resilience.Event) { announced++ })
			r := newRig(t, c)
			bad := textFunc(func() string { abort.Abort(); return "" })
			_ = r.run(errDown)
			for n := range 5 {
				_ = testkit.Unwind(func() error { return r.run(bad) })
				if s := r.Stats(); s.State != breaker.Open || s.Opened != uint64(n+1) || announced != 2*n+1 {
					t.Fatalf("failure %d: announced %d events, %+v", n, announced, s)
				}
				if got := r.last(); got.To != breaker.Open || strings.Contains(got.Error, "no text") || (got.Error == "") != abort.Goexit {
					t.Errorf("failure %d: remembers %v", n, got)
				}
				r.clock.add(time.Second)
			}
			if s := r.Stats(); s.ProbesFailed != 4 || s.Failures != 6 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestHistory_typedNil: a typed nil error is an error.
func TestHistory_typedNil(t *testing.T) {
	r := newRig(t, quick)
	var none *needy
	_, _ = r.run(none), r.run(none)
	r.want(breaker.Open)
	if got := r.last().Error; got != "*breaker_test.needy, whose Error method panics" {
		t.Errorf("got %q", got)
	}
	if s := r.Explain().String(); !strings.Contains(s, "whose Error method panics") {
		t.Errorf("got %s", s)
	}
}

// needy is an error that has no text if it is nil.
type needy struct{ text string }

func (e *needy) Error() string { return e.text }

// TestBreaker_errorUsesBreaker: a method of an error may read and change the breaker.
func TestBreaker_errorUsesBreaker(t *testing.T) {
	for name, f := range map[string]func(*rig){
		"explain": func(r *rig) { _ = r.Explain().String() },
		"reset":   func(r *rig) { r.Reset() },
		"mode":    func(r *rig) { r.SetMode(breaker.ForcedOpen); r.SetMode(breaker.Auto) },
		"call":    func(r *rig) { _ = r.run(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			called := false
			err := textFunc(func() string {
				if !called {
					called = true
					f(r)
				}
				return "busy"
			})
			_, _ = r.run(errDown), r.run(err)
			r.Reset()
			r.trip()
			r.clock.add(time.Second)
			called = false
			_ = r.run(err) // as the probe
			if !called {
				t.Error("Error of a probe's error was not called")
			}
		})
	}
}

// TestBreaker_modeDuringErrorText: the mode can be changed while the text of a probe's
// error is made.
func TestBreaker_modeDuringErrorText(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	called, answer := make(chan bool), make(chan bool)
	done := make(chan bool)
	first := true
	go func() {
		defer close(done)
		_ = r.run(textFunc(func() string {
			if first {
				first = false
				called <- true
				<-answer
			}
			return "slow"
		}))
	}()
	<-called
	r.SetMode(breaker.ForcedOpen) // does not wait
	close(answer)
	<-done
	r.SetMode(breaker.Auto)
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.ProbesFailed != 0 || s.Failures != 3 {
		t.Errorf("%+v", s)
	}
}

// TestTransition_String: a transition is one line.
func TestTransition_String(t *testing.T) {
	at := breaker.Transition{From: breaker.Closed, To: breaker.Open, Rule: "Consecutive{Failures: 2}", Failures: 2, OpenFor: 1234567890, Error: "down"}
	shadow, short, forced := at, at, at
	shadow.Mode = breaker.MetricsOnly
	short.OpenFor = 1234567
	forced.Mode, forced.OpenFor, forced.Rule, forced.Failures, forced.Error = breaker.ForcedOpen, 0, breaker.CauseSetMode, 0, ""
	for want, tr := range map[string]breaker.Transition{
		"CLOSED -> OPEN, Consecutive{Failures: 2}: 2 failed in a row, for 1.23s, after: down":                 at,
		"CLOSED -> OPEN, Consecutive{Failures: 2}: 2 failed in a row, for 1.23s, in MetricsOnly, after: down": shadow,
		"CLOSED -> OPEN, Consecutive{Failures: 2}: 2 failed in a row, for 1.235ms, after: down":               short,
		"CLOSED -> OPEN, SetMode(ForcedOpen)":                                                                 forced,
	} {
		if got := tr.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestHistory_clonesText: the history keeps no long text alive for a short piece of it.
// An error may be one line of a long response.
func TestHistory_clonesText(t *testing.T) {
	r := newRig(t, quick)
	long := strings.Repeat("x", 1<<20)
	r.flap(textFunc(func() string { return long[:10] }))
	for _, step := range r.Explain().History {
		if step.Error != "" && unsafe.StringData(step.Error) == unsafe.StringData(long) {
			t.Fatal("the history holds on to the text that the error is a part of")
		}
	}
	if h := r.Explain().History; len(h) == 0 || h[0].Error != long[:10] {
		t.Errorf("history %v", h)
	}
}
