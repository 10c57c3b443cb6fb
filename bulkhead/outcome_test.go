package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
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

// Calls that are no evidence about the dependency do not change the size: calls that their
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

// A call that ends in the queue is no evidence about the dependency, whichever clock ends it:
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

// couldGoOn is an operation that could go on after Run.
type couldGoOn struct {
	resilience.Tail
	fn resilience.Func
}

func (l *couldGoOn) Discard() {}

func (l *couldGoOn) Run(ctx context.Context) (err error) {
	run := l.Begin()
	err = resilience.ErrAborted
	defer func() { l.End(run, err) }()
	err = l.fn(ctx)
	return err
}

// Calls that panic or exit count as failures: they do not make the bulkhead grow, and
// neither do operations that fail and could have gone on.
func TestBulkhead_abortsDoNotGrow(t *testing.T) {
	fail := func() error { return errors.New("down") }
	for name, end := range map[string]func() error{
		"panic": func() error { panic("operation") }, "Goexit": func() error { runtime.Goexit(); return nil }, "error": fail,
	} {
		for _, lasts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lasting: %v", name, lasts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := resilience.Must(bulkhead.New(bulkhead.Config{MaxWait: time.Minute}))
					fn := func(context.Context) error { time.Sleep(time.Second); return end() }
					for range 50 {
						var calls sync.WaitGroup
						for range 24 {
							calls.Go(func() {
								defer func() { _ = recover() }()
								if lasts {
									_ = resilience.RunOperation(t.Context(), b, &couldGoOn{fn: fn})
								} else {
									_ = resilience.Run(t.Context(), b, fn)
								}
							})
						}
						calls.Wait()
					}
					if s := b.Stats(); s.Average != 0 || s.InFlight != 0 {
						t.Errorf("%+v", s.Gauges)
					}
				})
			})
		}
	}
}

// endsLate is a context whose Err changes while its Done does not: it ends at the instant at
// which a slot arrives.
type endsLate struct {
	context.Context
	ended atomic.Bool
}

func (e *endsLate) Err() error {
	if e.ended.Load() {
		return context.Canceled
	}
	return nil
}

// A slot that arrives at the instant at which the caller's context ends is passed on.
func TestBulkhead_slotAtContextEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxWait: time.Minute}))
		held, err := b.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx := &endsLate{Context: t.Context()}
		left := make(chan error)
		go func() {
			left <- resilience.Run(ctx, b, func(context.Context) error { t.Error("it ran"); return nil })
		}()
		synctest.Wait()
		ctx.ended.Store(true)
		held.Release(nil)
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if s := b.Stats(); s.InFlight != 0 || s.Queued != 0 || s.Canceled != 1 {
			t.Errorf("%+v", s)
		}
		if err := resilience.Run(t.Context(), b, func(context.Context) error { return nil }); err != nil {
			t.Errorf("the slot is lost: %v", err)
		}
	})
}
