package stale_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stale"
)

// until returns a fetch that takes d, or less if its context ends.
func until(d time.Duration, v int) fetch {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(d):
			return v, nil
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
}

// result is what a call returned, and how long it took.
type result struct {
	v    int
	age  time.Duration
	err  error
	took time.Duration
}

// start calls Do on a new goroutine and returns when that waits.
func start(ctx context.Context, s *stale.Stale[int], p resilience.Policy, fn fetch) <-chan result {
	done := make(chan result, 1)
	go func() {
		begun := time.Now()
		v, age, err := s.Do(ctx, p, "k", fn)
		done <- result{v, age, err, time.Since(begun)}
	}()
	synctest.Wait()
	return done
}

// never returns a fetch that must not run, because the call shares another one.
func never(t *testing.T) fetch {
	return func(context.Context) (int, error) { t.Error("the fetch ran instead of being shared"); return 0, nil }
}

// 64 callers share one fetch, and its value or error.
func TestStale_sharesFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		for _, want := range []error{nil, errBoom} {
			var runs atomic.Int32
			var all []<-chan result
			for range 64 {
				all = append(all, start(t.Context(), s, nil, func(context.Context) (int, error) {
					runs.Add(1)
					time.Sleep(time.Second)
					return 7, want
				}))
			}
			for _, c := range all {
				if r := <-c; r.v != 7 || r.err != nil || (r.age > 0) != (want != nil) || r.took != time.Second {
					t.Errorf("%+v", r)
				}
			}
			if n := runs.Load(); n != 1 {
				t.Errorf("%d runs", n)
			}
		}
		wantStats(t, s, stale.Stats{Fresh: 64, Stale: 64, Refreshes: 2, Keys: 1})
	})
}

// Calls for different keys do not share a fetch.
func TestStale_keysDoNotShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		first := start(t.Context(), s, nil, until(time.Hour, 1))
		if v, _, err := s.Do(t.Context(), nil, "other", value(2)); v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		<-first
	})
}

// If the first caller cancels, it returns at once, and the others get the fetch's value.
func TestStale_leaderCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		learn(t, s, "k", 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		leader := start(ctx, s, nil, until(time.Minute, 2))
		other := start(t.Context(), s, nil, never(t))
		time.Sleep(time.Second)
		cancel(errOwn)
		if r := <-leader; r.took != time.Second || r.age != 0 || !errors.Is(r.err, context.Canceled) || !errors.Is(r.err, errOwn) {
			t.Errorf("the leader got %+v", r)
		}
		if r := <-other; r.v != 2 || r.err != nil || r.took != time.Minute {
			t.Errorf("the other got %+v", r)
		}
	})
}

// A caller whose deadline passes gets the remembered value at once.
func TestStale_callerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		learn(t, s, "k", 1)
		leader := start(t.Context(), s, nil, until(time.Minute, 2))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r := <-start(ctx, s, nil, never(t)); r.v != 1 || r.age != time.Second || r.err != nil || r.took != time.Second {
			t.Errorf("got %+v", r)
		}
		if r := <-leader; r.v != 2 || r.err != nil {
			t.Errorf("the leader got %+v", r)
		}
		s.Forget("k")
		leader = start(t.Context(), s, nil, until(time.Minute, 2))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r := <-start(ctx, s, nil, never(t)); r.age != 0 || !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("with nothing remembered: %+v", r)
		}
		<-leader
	})
}

// The last caller to leave cancels the fetch and waits for it.
func TestStale_lastCallerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		ended := false
		slow := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // to clean up
			ended = true
			return -1, errors.Join(errBoom, context.Cause(ctx))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		first, last := start(ctx, s, nil, slow), start(ctx, s, nil, never(t))
		cancel(errOwn)
		synctest.Wait()
		fresh := start(t.Context(), s, nil, value(3)) // does not join the canceled fetch
		if r := <-fresh; r.v != 3 || r.err != nil {
			t.Errorf("a new caller got %+v", r)
		}
		a, b := <-first, <-last
		if a.took > b.took {
			a, b = b, a
		}
		if a.took != 0 || !errors.Is(a.err, context.Canceled) {
			t.Errorf("the first to leave got %+v", a)
		}
		if b.took != time.Second || !errors.Is(b.err, errBoom) || !errors.Is(b.err, errOwn) || !errors.Is(b.err, context.Canceled) || !ended {
			t.Errorf("the last to leave got %+v", b)
		}
	})
}

// A value that comes after the last caller's deadline is returned and remembered.
func TestStale_lateValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := <-start(ctx, s, nil, func(context.Context) (int, error) { time.Sleep(time.Minute); return 5, nil })
		if r.v != 5 || r.err != nil || r.age != 0 {
			t.Errorf("got %+v", r)
		}
		if v, ok := knows(t, s, "k"); v != 5 || !ok {
			t.Errorf("remembered %d, %v", v, ok)
		}
	})
}

// The policy sees the caller's deadline, and can tell it from a cancellation.
func TestStale_policySeesDeadline(t *testing.T) {
	type cause struct{ error }
	for name, test := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		opens   bool
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, cause{errOwn})
		}, true},
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, false},
		"canceled for another deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
			return ctx, func() { cancel(nil) }
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := must(t, stale.Config{})
				b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}}))
				ctx, cancel := test.context(t.Context())
				defer cancel()
				want, hasDeadline := ctx.Deadline()
				r := <-start(ctx, s, b, func(ctx context.Context) (int, error) {
					if d, ok := ctx.Deadline(); ok != hasDeadline || !d.Equal(want) {
						t.Errorf("deadline %v, %v, want %v", d, ok, want)
					}
					return until(time.Hour, 0)(ctx)
				})
				if r.err == nil || r.took != time.Second {
					t.Errorf("got %+v", r)
				}
				if opened := b.State() == breaker.Open; opened != test.opens {
					t.Errorf("opened: %v", opened)
				}
			})
		})
	}
}

// The fetch has the values of the first caller's context.
func TestStale_contextValues(t *testing.T) {
	type key struct{}
	s := must(t, stale.Config{})
	_, _, err := s.Do(context.WithValue(t.Context(), key{}, "first"), nil, "k", func(ctx context.Context) (int, error) {
		if v := ctx.Value(key{}); v != "first" {
			t.Errorf("value %v", v)
		}
		return 0, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// No caller fails by another caller's deadline, and a fetch that hangs is not shared for
// longer than its deadline. Callers with a second each arrive one by one at a dependency
// that hangs at first.
func TestStale_rounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		rounds := 0
		fn := func(ctx context.Context) (int, error) {
			rounds++
			if rounds == 3 {
				return 3, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		}
		begun := time.Now()
		var all []<-chan result
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			all = append(all, start(ctx, s, nil, fn))
			time.Sleep(100 * time.Millisecond)
		}
		for i, c := range all {
			r := <-c
			arrived := time.Duration(i) * 100 * time.Millisecond
			switch {
			case r.err == nil && r.v != 3, r.err != nil && r.took != time.Second:
				t.Errorf("caller %d got %+v", i, r)
			case arrived >= 1100*time.Millisecond && r.err != nil:
				t.Errorf("caller %d missed the third round: %+v", i, r)
			}
		}
		// The first round begins at 0 s. The second begins at 1 s and has the deadline of
		// the last caller before that. The third succeeds at about 1.9 s and ends the
		// flight. Then a new flight begins.
		if rounds < 3 || time.Since(begun) > 3*time.Second {
			t.Errorf("%d rounds in %v", rounds, time.Since(begun))
		}
	})
}

// hooked is a Clock that calls hook once, when it is read.
type hooked struct {
	clock.Clock
	hook atomic.Pointer[func()]
}

func (h *hooked) Now() time.Time {
	if f := h.hook.Swap(nil); f != nil {
		(*f)()
	}
	return h.Clock.Now()
}

// A caller that arrives when another's deadline has ended the fetch starts a new fetch.
func TestStale_arrivesAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &hooked{Clock: clock.NewMock()}
		s := must(t, stale.Config{Clock: c})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var late <-chan result
		first := start(ctx, s, nil, func(ctx context.Context) (int, error) {
			hook := func() { late = start(t.Context(), s, nil, value(9)) }
			c.hook.Store(&hook) // runs after the fetch, before the callers are notified
			return until(time.Minute, 1)(ctx)
		})
		if r := <-first; r.v != 9 || r.age == 0 || r.err != nil { // the other caller's value
			t.Errorf("the first got %+v", r)
		}
		if r := <-late; r.v != 9 || r.age != 0 || r.err != nil {
			t.Errorf("the late caller got %+v", r)
		}
	})
}

// There is no further round if all callers with more time have left.
func TestStale_noFetchForNoCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := start(ctx, s, nil, func(context.Context) (int, error) { time.Sleep(time.Minute); return -1, errBoom })
		ctx, cancel = context.WithCancel(t.Context()) // has no deadline
		time.AfterFunc(2*time.Second, cancel)
		last := start(ctx, s, nil, never(t))
		if r := <-first; !errors.Is(r.err, context.DeadlineExceeded) || r.took != time.Second {
			t.Errorf("the first got %+v", r)
		}
		if r := <-last; r.err != errBoom {
			t.Errorf("the last got %+v", r)
		}
		wantStats(t, s, stale.Stats{Failed: 2, Refreshes: 1})
	})
}

// A fetch that fails before its deadline does not run again.
func TestStale_failureNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runs := 0
		leader := start(ctx, s, nil, func(context.Context) (int, error) { runs++; time.Sleep(time.Second); return 0, errBoom })
		other := start(t.Context(), s, nil, never(t))
		if a, b := <-leader, <-other; a.err != errBoom || b.err != errBoom || runs != 1 {
			t.Errorf("%+v and %+v after %d runs", a, b, runs)
		}
	})
}

// A caller without a deadline gets a round without a deadline.
func TestStale_noDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leader := start(ctx, s, nil, until(time.Minute, 1))
		other := start(t.Context(), s, nil, never(t))
		if r := <-leader; !errors.Is(r.err, context.DeadlineExceeded) || r.took != time.Second {
			t.Errorf("the leader got %+v", r)
		}
		if r := <-other; r.v != 1 || r.err != nil || r.took != time.Second+time.Minute {
			t.Errorf("the other got %+v", r)
		}
		wantStats(t, s, stale.Stats{Fresh: 1, Failed: 1, Refreshes: 2, Keys: 1})
	})
}

// A shared fetch is attempt 1, whatever attempt its first caller is: its retry may retry.
// It has the other values of the first caller's context.
func TestStale_noAttemptOfCaller(t *testing.T) {
	type key struct{}
	for _, attempt := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := must(t, stale.Config{})
			r := resilience.Must(retry.New(retry.Config{BaseDelay: time.Millisecond}))
			var attempts []int
			fails := func(ctx context.Context) (int, error) {
				attempts = append(attempts, resilience.Attempt(ctx))
				if time.Sleep(time.Second); len(attempts) == 1 {
					return 0, errBoom
				}
				if ctx.Value(key{}) != "first" {
					t.Errorf("the fetch has the value %v", ctx.Value(key{}))
				}
				return 7, nil
			}
			first := context.WithValue(resilience.WithAttempt(t.Context(), attempt), key{}, "first")
			callers := []<-chan result{start(first, s, r, fails), start(t.Context(), s, r, never(t))}
			for i, c := range callers {
				if r := <-c; r.v != 7 || r.age != 0 || r.err != nil {
					t.Errorf("the first is attempt %d: caller %d gets %+v", attempt, i, r)
				}
			}
			if !slices.Equal(attempts, []int{1, 2}) {
				t.Errorf("the first is attempt %d: the fetch has attempts %v", attempt, attempts)
			}
		})
	}
}
