package stack_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// The default breaker opens on silence, and only for the key that is silent.
func TestClient_breakerOpensOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Client("users")
		runs := 0
		down := call{"down", func(context.Context) error { runs++; return errBoom }}
		start := time.Now()
		var err error
		for !errors.Is(err, breaker.ErrOpen) {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("still closed after %d runs and %v: %v", runs, time.Since(start), err)
			}
			time.Sleep(100 * time.Millisecond)
			if err = resilience.RunOperation(t.Context(), p, down); err == nil {
				t.Fatal("a failure is a success")
			}
		}
		if took := time.Since(start); runs < 7 || took < time.Second {
			t.Errorf("open after %d runs and %v, want 7 over a second at least", runs, took)
		}
		before := runs
		if err := resilience.RunOperation(t.Context(), p, down); !errors.Is(err, resilience.ErrRejected) || runs != before {
			t.Errorf("error %v; the operation ran %d times more", err, runs-before)
		}
		for _, key := range []string{"up", ""} {
			if err := resilience.RunOperation(t.Context(), p, call{key, succeed}); err != nil {
				t.Errorf("key %q: %v", key, err)
			}
		}
	})
}

// The default client makes three attempts and cuts each off after 10 s.
func TestClient_threeAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Client("users")
		for range 1000 { // fills the budget, since a retry after a timeout costs 20
			_ = resilience.Run(t.Context(), p, succeed)
			time.Sleep(time.Millisecond)
		}
		runs := 0
		start := time.Now()
		err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
			runs++
			<-ctx.Done()
			return ctx.Err()
		})
		var e *retry.Error
		if !errors.Is(err, timeout.ErrExceeded) || !errors.As(err, &e) || e.Reason != retry.OutOfAttempts || runs != 3 {
			t.Errorf("error %v after %d runs", err, runs)
		}
		if took := time.Since(start); took < 30*time.Second || took > 33*time.Second {
			t.Errorf("took %v, want three times 10 s and two short waits", took)
		}
	})
}

// A call holds no slot of the bulkhead during its backoff.
func TestClient_slotFreeInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Bulkhead.Slots, c.Bulkhead.MaxQueue = 1, bulkhead.NoQueue
		c.Retry.Backoff = func(int) time.Duration { return time.Second }
		p := resilience.Must(c.New())
		done := make(chan error)
		go func() { done <- resilience.Run(t.Context(), p, fail) }()
		time.Sleep(500 * time.Millisecond)
		if err := resilience.Run(t.Context(), p, succeed); err != nil {
			t.Errorf("during the backoff: %v", err)
		}
		if err := <-done; errors.Is(err, resilience.ErrRejected) {
			t.Error(err)
		}
	})
}

// Rejections by a full bulkhead do not open the breaker.
func TestClient_fullBulkheadIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Bulkhead.Slots, c.Bulkhead.MaxQueue = 1, bulkhead.NoQueue
		p := resilience.Must(c.New())
		err := resilience.Run(t.Context(), p, func(context.Context) error {
			for range 100 {
				time.Sleep(50 * time.Millisecond)
				if err := resilience.Run(t.Context(), p, succeed); !errors.Is(err, bulkhead.ErrFull) {
					t.Fatalf("error %v", err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := resilience.Run(t.Context(), p, succeed); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// Total bounds all attempts and the waits between them.
func TestClient_total(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Total = timeout.Config{Name: "total", Timeout: 12 * time.Second}
		p := resilience.Must(c.New())
		start := time.Now()
		err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		var e *timeout.Error
		if took := time.Since(start); took != 12*time.Second || !errors.As(err, &e) || e.Name != "total" {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

// Without the timeout of an attempt, a call allocates nothing.
func TestClient_allocations(t *testing.T) {
	c := stack.DefaultClient("users")
	c.Without = stack.Attempt
	p, ctx, op := resilience.Must(c.New()), context.Background(), resilience.Func(succeed)
	_ = resilience.RunOperation(ctx, p, op)
	if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, p, op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Layers without an Observer use the Observer of the stack. New changes no configuration.
func TestClient_observer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all, own resiliencetest.Recorder
		c := stack.DefaultClient("users")
		c.Observer, c.Breaker.Observer = &all, &own
		p := resilience.Must(c.New())
		if c.Retry.Observer != nil {
			t.Error("New changed the configuration of the caller")
		}
		for range 8 {
			_ = resilience.Run(t.Context(), p, fail)
			time.Sleep(time.Second)
		}
		if len(all.Events(retry.EventGaveUp)) == 0 || len(all.Transitions()) != 0 {
			t.Errorf("the observer of the stack has %v", all.Events())
		}
		if len(own.Transitions()) == 0 {
			t.Error("the observer of the breaker has no transition")
		}
	})
}

// Layers without a name take the name of the stack.
func TestClient_names(t *testing.T) {
	c := stack.DefaultClient("payments")
	c.Total.Timeout = time.Minute
	c.Retry.Name = "own"
	want := []string{
		"timeout.Timeout payments total", "keyed.Group payments", "retry.Retry own",
		"breaker.Breaker payments", "bulkhead.Bulkhead payments", "timeout.Timeout payments",
	}
	if got := named(resilience.Must(c.New())); !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if c.Total.Name != "" {
		t.Error("New changed the configuration of the caller")
	}
}

// Layers of a server take its name and its Observer if they have none.
func TestServer_namesAndObserver(t *testing.T) {
	var all, own resiliencetest.Recorder
	c := stack.ServerConfig{Name: "orders", Observer: &all, Bulkhead: bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}}
	refuse := func(c stack.ServerConfig) {
		t.Helper()
		p := resilience.Must(c.New())
		_ = resilience.Run(t.Context(), p, func(context.Context) error {
			return resilience.Run(t.Context(), p, succeed) // the bulkhead is full
		})
	}
	refuse(c)
	want := []string{"limit.Limit orders", "bulkhead.Bulkhead orders"}
	if got := named(resilience.Must(c.New())); !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if n := len(all.Events(bulkhead.EventRejected)); n != 1 {
		t.Errorf("the observer of the stack has %v", all.Events())
	}
	c.Limit.Name, c.Bulkhead.Name, c.Bulkhead.Observer = "own", "own", &own
	refuse(c)
	want = []string{"limit.Limit own", "bulkhead.Bulkhead own"}
	if got := named(resilience.Must(c.New())); !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if len(all.Events()) != 1 || len(own.Events(bulkhead.EventRejected)) != 1 {
		t.Errorf("the observers have %v and %v", all.Events(), own.Events())
	}
	if c.Limit.Observer != nil {
		t.Error("New changed the configuration of the caller")
	}
}

// The Observer of a server is called when an overload begins.
func TestServer_overloadEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var observed resiliencetest.Recorder
		c := stack.DefaultServer("orders")
		c.Observer = &observed
		p := resilience.Must(c.New())
		workers := make(chan struct{}, 4)
		var all sync.WaitGroup
		defer all.Wait()
		for n := 0; len(observed.Transitions()) == 0; n++ {
			if n == 20_000 {
				t.Fatal("no overload after 20 s")
			}
			all.Go(func() {
				_ = resilience.Run(t.Context(), p, func(context.Context) error {
					workers <- struct{}{}
					time.Sleep(10 * time.Millisecond)
					<-workers
					return nil
				})
			})
			time.Sleep(time.Millisecond)
		}
		if e := observed.Events()[0]; e.Policy != "limit" || e.Name != "orders" || e.To != "OVERLOAD" {
			t.Errorf("observed %+v", e)
		}
	})
}
