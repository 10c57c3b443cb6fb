package limit_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// transitions records the states that an observer is called with.
type transitions struct {
	mu sync.Mutex
	to []string
}

func (o *transitions) Observe(_ context.Context, e resilience.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = append(o.to, e.To)
}

func (o *transitions) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.to)
}

// The observer is called at the end of an overload even if no request comes.
func TestLimit_overloadEndsUnloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &transitions{}
		l := resilience.Must(limit.New(limit.Config{Observer: o}))
		s := simulate(10, l, 1)
		s.steady(10*time.Second, 2000, time.Second, 10*ms)
		s.all.Wait()
		if to := o.all(); len(to) == 0 || to[0] != "OVERLOAD" || !l.Stats().Overload {
			t.Fatalf("there was no overload: %q", to)
		}
		time.Sleep(5 * time.Second)
		to := o.all()
		if l.Stats().Overload || to[len(to)-1] != "NORMAL" {
			t.Errorf("it goes on without anybody: %q", to)
		}
		for i, state := range to {
			if want := []string{"OVERLOAD", "NORMAL"}[i%2]; state != want {
				t.Errorf("told %q", to)
				break
			}
		}
	})
}

// unwinds is an operation whose Await does.
type unwinds struct{ resilience.Func }

func (unwinds) Await(resilience.Settler, uint64) bool { panic("no") }

// If Await panics, the slot is freed.
func TestLimit_awaitPanics(t *testing.T) {
	l := resilience.Must(limit.New(limit.Config{}))
	func() {
		defer func() { _ = recover() }()
		_ = resilience.RunOperation(t.Context(), l, unwinds{func(context.Context) error { return nil }})
	}()
	if s := l.Stats(); s.InFlight != 0 {
		t.Errorf("%d in flight", s.InFlight)
	}
}
