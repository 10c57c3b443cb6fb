package limit_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/resiliencetest"
)

// cycles has overloads come and go.
func cycles(t *testing.T, l *limit.Limit, n int) {
	t.Helper()
	s := newService(4, 10*time.Millisecond)
	for range n {
		s.overwhelm(t, l)
		s.calls.Wait()
		time.Sleep(3 * time.Second)
		s.load(l, 50*time.Millisecond, time.Second, nil) // who comes next finds that it is over
		s.calls.Wait()
	}
}

// The observer is called once for each begin and end of an overload, in order.
func TestLimit_eventsOnceInOrder(t *testing.T) {
	var l *limit.Limit
	ctx := context.Background()
	for name, behave := range map[string]func(){
		"a quiet observer":   func() {},
		"one that panics":    func() { panic("boom") },
		"one that exits":     runtime.Goexit,
		"a re-entrant one":   func() { _ = l.Stats(); _ = l.Idle(); _ = resilience.Run(ctx, l, succeed) },
		"one that is slow":   func() { time.Sleep(20 * time.Millisecond) },
		"slow, and it exits": func() { time.Sleep(20 * time.Millisecond); runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard resiliencetest.Recorder
				l = newLimit(t, limit.Config{Name: "orders", Observer: testkit.Observer(func(e resilience.Event) {
					heard.Observe(ctx, e)
					behave()
				})})
				cycles(t, l, 3)
				want := []string{}
				for range l.Stats().Overloads {
					want = append(want, "NORMAL->OVERLOAD", "OVERLOAD->NORMAL")
				}
				if got := heard.Transitions(); !slices.Equal(got, want) || len(got) < 6 {
					t.Errorf("heard %v, want %v", got, want)
				}
				for i, e := range heard.Events() {
					if e.Policy != "limit" || e.Name != "orders" || e.Key != "" || e.Time.After(time.Now()) {
						t.Errorf("event %d: %+v", i, e)
					}
				}
				if s := l.Stats(); s.InFlight != 0 || s.Queued != 0 {
					t.Errorf("at rest: %+v", s)
				}
			})
		})
	}
}

// Events of a fork have its key, and its overload does not change the limit of its
// origin.
func TestLimitFork_eventsHaveKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard resiliencetest.Recorder
		l := newLimit(t, limit.Config{Observer: &heard})
		fork := l.Fork("a").(*limit.Limit)
		cycles(t, fork, 1)
		if l.Stats().Overloads == 0 || l.Stats().Limit != 0 || l.Stats().Knee != 0 {
			t.Errorf("the limit that it is a fork of: %+v", l.Stats())
		}
		for _, e := range heard.Events() {
			if e.Key != "a" {
				t.Errorf("heard %+v", e)
			}
		}
		if len(heard.Events()) < 2 {
			t.Errorf("heard %+v", heard.Events())
		}
	})
}

// A slow observer blocks only the goroutine that calls it. Later events wait for it.
func TestLimit_slowObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard resiliencetest.Recorder
		release := make(chan struct{})
		var once sync.Once
		l := newLimit(t, limit.Config{Observer: testkit.Observer(func(e resilience.Event) {
			heard.Observe(context.Background(), e)
			once.Do(func() { <-release })
			runtime.Goexit()
		})})
		s := newService(4, 10*time.Millisecond)
		s.overwhelm(t, l)
		time.Sleep(3 * time.Second)
		s.load(l, 50*time.Millisecond, time.Second, nil)
		if got := heard.Transitions(); len(got) != 1 || l.Stats().InFlight != 0 {
			t.Fatalf("heard %v: %+v", got, l.Stats())
		}
		close(release) // who tells exits, and leaves the end of the overload to the next
		s.calls.Wait()
		for i := range 500 {
			s.call(l, i, time.Second)
		}
		s.calls.Wait()
		if got, want := heard.Transitions(), []string{"NORMAL->OVERLOAD", "OVERLOAD->NORMAL"}; len(got) < 2 || !slices.Equal(got[:2], want) {
			t.Errorf("heard %v", got)
		}
		if got := l.Stats(); got.InFlight != 0 || got.Queued != 0 {
			t.Errorf("at rest: %+v", got)
		}
	})
}

// The time of an event is the wall time of the change, also after that has jumped.
func TestLimit_eventTimeAfterJump(t *testing.T) {
	for _, jump := range []time.Duration{8 * time.Hour, -8 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			hands, events := testkit.NewJumpClock(), 0
			l := newLimit(t, limit.Config{Clock: hands, Observer: testkit.Observer(func(e resilience.Event) {
				events++
				if off := e.Time.Round(0).Sub(hands.Now().Round(0)); off.Abs() > time.Second {
					t.Errorf("a jump of %v makes the time of %q wrong by %v", jump, e.Kind, off)
				}
			})})
			hands.Jump(jump)
			cycles(t, l, 1)
			if events < 2 {
				t.Errorf("%d events", events)
			}
		})
	}
}
