package bulkhead_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
)

// grown returns a bulkhead that has sized itself for 40 calls in flight.
func grown(t *testing.T) *bulkhead.Bulkhead {
	t.Helper()
	b := resilience.Must(bulkhead.New(bulkhead.Config{MaxWait: time.Minute}))
	repeat(t, b, 40, 50, func(context.Context) error { time.Sleep(time.Second); return nil })
	if s := b.Stats(); s.Slots < 100 {
		t.Fatalf("%d slots", s.Slots)
	}
	return b
}

// repeat runs fn in that many goroutines, rounds times in each.
func repeat(t *testing.T, b *bulkhead.Bulkhead, goroutines, rounds int, fn resilience.Func) {
	t.Helper()
	done := make(chan struct{})
	for range goroutines {
		go func() {
			for range rounds {
				_ = resilience.Run(t.Context(), b, fn)
			}
			done <- struct{}{}
		}()
	}
	for range goroutines {
		<-done
	}
}

// Calls that say nothing about the dependency do not change the size: calls that their
// callers cancel, that an inner policy rejects, and that are marked so.
func TestBulkhead_ignoredKeepsSize(t *testing.T) {
	for name, fn := range map[string]func(ctx context.Context, cancel func()) error{
		"canceled": func(ctx context.Context, cancel func()) error { cancel(); return ctx.Err() },
		"rejected": func(context.Context, func()) error { return &resilience.Rejection{Policy: "inner"} },
		"ignored":  func(context.Context, func()) error { return resilience.Ignore(errors.New("bad input")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := grown(t)
				before := b.Stats().Gauges
				for range 5000 {
					ctx, cancel := context.WithCancel(t.Context())
					_ = resilience.Run(ctx, b, func(ctx context.Context) error { return fn(ctx, cancel) })
					cancel()
				}
				if after := b.Stats().Gauges; after != before {
					t.Errorf("%+v, want %+v", after, before)
				}
			})
		})
	}
}

// An error that is an answer makes the bulkhead grow as a success does.
func TestBulkhead_answerGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(bulkhead.New(bulkhead.Config{MaxWait: time.Minute}))
		repeat(t, b, 40, 50, func(context.Context) error {
			time.Sleep(time.Second)
			return resilience.Answer(errors.New("no such user"))
		})
		if s := b.Stats(); s.Slots < 100 {
			t.Errorf("%d slots", s.Slots)
		}
	})
}

// A call that ends in the queue says nothing about the dependency, whichever clock ends it:
// a breaker outside counts no failure.
func TestBulkhead_queueEndIsIgnored(t *testing.T) {
	for name, deadline := range map[string]time.Duration{"MaxWait": time.Second, "the caller's deadline": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				br := resilience.Must(breaker.New(breaker.Config{}))
				b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: 100}))
				held, err := b.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					err := resilience.Run(ctx, resilience.Compose(br, b), func(context.Context) error { t.Error("it ran"); return nil })
					if ctx.Err() != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("error %v", err)
					}
					cancel()
				}
				if s := br.Stats(); s.Failures != 0 || s.Ignored != 20 {
					t.Errorf("%+v", s.Counters)
				}
				held.Release(nil)
			})
		})
	}
}

// A permit without work frees its slot and does not change the size.
func TestPermit_cancelKeepsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := grown(t)
		before := b.Stats().Gauges
		for range 5000 {
			p, err := b.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p.Cancel()
			p.Release(errors.New("once only"))
		}
		if after := b.Stats().Gauges; after != before {
			t.Errorf("%+v, want %+v", after, before)
		}
		new(bulkhead.Permit).Cancel()
	})
}
