package breaker_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

type observerFunc func(context.Context, resilience.Event)

func (f observerFunc) Observe(ctx context.Context, e resilience.Event) { f(ctx, e) }

// TestObserver_reentrant: an observer that uses the same breaker does not deadlock.
func TestObserver_reentrant(t *testing.T) {
	var r *rig
	var order []string
	c := quick
	c.Observer = observerFunc(func(_ context.Context, e resilience.Event) {
		order = append(order, e.To)
		_ = r.State()
		_ = r.Stats()
		if e.To == "OPEN" && len(order) == 1 {
			r.clock.add(time.Second)
			_ = r.run(nil) // HALF_OPEN, CLOSED: announced after this event
			if len(order) != 1 {
				t.Error("an event was announced within another")
			}
		}
	})
	r = newRig(t, c)
	_, _ = r.run(errDown), r.run(errDown)
	if got := strings.Join(order, " "); got != "OPEN HALF_OPEN CLOSED" {
		t.Errorf("announced %s", got)
	}
}

// TestObserver_slow: a slow observer delays only the call that made the transition.
func TestObserver_slow(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	var announced atomic.Int64
	c := quick
	c.Observer = observerFunc(func(context.Context, resilience.Event) {
		if announced.Add(1) == 1 {
			entered <- true
			<-leave
		}
	})
	r := newRig(t, c)
	tripped := make(chan bool)
	go func() {
		_, _ = r.run(errDown), r.run(errDown)
		close(tripped)
	}()
	<-entered
	if err := r.run(nil); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("while the observer is busy: %v", err)
	}
	r.clock.add(2 * time.Second)
	if err := r.run(nil); err != nil { // two more transitions, queued
		t.Errorf("the probe while the observer is busy: %v", err)
	}
	r.want(breaker.Closed)
	close(leave)
	<-tripped
	if announced.Load() != 3 {
		t.Errorf("announced %d events, want 3", announced.Load())
	}
}

// TestObserver_panicOrGoexit: an observer that panics or exits loses no event and no
// slot.
func TestObserver_panicOrGoexit(t *testing.T) {
	for name, how := range map[string]func(){"panic": func() { panic("observer") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var announced []string
			c := quick
			c.Observer = observerFunc(func(_ context.Context, e resilience.Event) {
				announced = append(announced, e.To)
				how()
			})
			r := newRig(t, c)
			// Goexit ends the goroutine of a call; a probe ends before it runs.
			for _, err := range []error{errDown, errDown, nil, nil, errDown, errDown, errDown} {
				var wg sync.WaitGroup
				wg.Go(func() { _ = r.run(err) })
				wg.Wait()
				if r.State() == breaker.Open {
					r.clock.add(time.Second)
				}
			}
			if got := strings.Join(announced, " "); !strings.HasPrefix(got, "OPEN HALF_OPEN CLOSED OPEN") {
				t.Errorf("announced %s", got)
			}
			if s := r.Stats(); s.InFlight != 0 {
				t.Errorf("a slot is lost: %+v", s)
			}
		})
	}
}

// TestEvent_fields: an event has the rule, the counts and the error.
func TestEvent_fields(t *testing.T) {
	r := newRig(t, breaker.Config{
		Name: "users", OpenFor: time.Second, CloseAfter: 1,
		Trip: []breaker.Rule{breaker.Consecutive{Failures: 50}, breaker.Silence{Failures: 3, Span: 20 * time.Millisecond}},
	})
	for range 3 {
		r.clock.add(10 * time.Millisecond)
		_ = r.run(errDown)
	}
	r.want(breaker.Open)
	e := r.seen[0]
	want := resilience.Event{
		Kind: breaker.EventOpened, Level: slog.LevelWarn, Time: r.clock.Now(), Policy: "breaker", Name: "users", From: "CLOSED", To: "OPEN",
		Reason: "Silence{Failures: 3, Span: 20*time.Millisecond}", Failures: 3, Delay: time.Second, Err: errDown,
	}
	if e != want {
		t.Errorf("event\n%+v\nwant\n%+v", e, want)
	}
}

// TestEvent_order: events alternate, and the last one is the state installed last.
func TestEvent_order(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Microsecond, CloseAfter: 2})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 2000 {
				var err error
				if (n/7+i)%3 == 0 {
					err = errDown
				}
				_ = r.run(err)
				r.clock.add(time.Microsecond)
			}
		})
	}
	wg.Wait()
	r.clock.add(-time.Nanosecond) // nothing changes; State may say HALF_OPEN for OPEN
	last := "CLOSED"
	counts := map[string]uint64{}
	for i, e := range r.seen {
		if e.From != last || e.To == e.From {
			t.Fatalf("event %d goes from %s to %s after %s", i, e.From, e.To, last)
		}
		last = e.To
		counts[e.To]++
	}
	s := r.Stats()
	if s.Opened != counts["OPEN"] || s.HalfOpened != counts["HALF_OPEN"] || s.Closed != counts["CLOSED"] || s.Opened < 10 {
		t.Errorf("announced %v, counted %+v", counts, s)
	}
	if got := s.State.String(); got != last && !(last == "OPEN" && got == "HALF_OPEN") {
		t.Errorf("state %s, last event %s", got, last)
	}
	if calls := s.Successes + s.Failures + s.Ignored + s.Rejected; calls != 8*2000 {
		t.Errorf("the outcomes add up to %d calls, want %d", calls, 8*2000)
	}
}

// TestObserver_goexitWithPending: events that are pending when the observer exits are
// still announced.
func TestObserver_goexitWithPending(t *testing.T) {
	var r *rig
	announced := 0
	c := quick
	c.Observer = observerFunc(func(context.Context, resilience.Event) {
		if announced++; announced == 1 {
			for range 5 {
				r.SetMode(breaker.Disabled)
				r.SetMode(breaker.ForcedOpen)
			}
		}
		runtime.Goexit()
	})
	r = newRig(t, c)
	_ = testkit.Unwind(func() error { r.SetMode(breaker.ForcedOpen); return nil })
	if announced != 11 {
		t.Errorf("announced %d events, want 11", announced)
	}
}

// TestEvent_releasesContext: after an event is announced, the breaker does not keep its
// context.
func TestEvent_releasesContext(t *testing.T) {
	r := newRig(t, quick)
	type key struct{}
	value := new([1 << 10]byte)
	gone := weak.Make(value)
	ctx := context.WithValue(t.Context(), key{}, value)
	for range 2 {
		_ = resilience.Run(ctx, r.Breaker, func(context.Context) error { return errDown })
	}
	r.want(breaker.Open)
	value, ctx = nil, nil
	runtime.GC()
	if gone.Value() != nil {
		t.Error("the context of the call that opened the breaker is still there")
	}
	runtime.KeepAlive(r)
}
