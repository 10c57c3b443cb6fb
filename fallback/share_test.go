package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/fallback"
)

// until is a fetch that takes d, or as long as its context lasts.
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

// result is what a call returned, and after how long.
type result struct {
	v    int
	age  time.Duration
	err  error
	took time.Duration
}

// start calls Do on a goroutine of its own and waits until it waits.
func start(ctx context.Context, s *fallback.Stale[int], p resilience.Policy, fn fetch) <-chan result {
	done := make(chan result, 1)
	go func() {
		begun := time.Now()
		v, age, err := s.Do(ctx, p, "k", fn)
		done <- result{v, age, err, time.Since(begun)}
	}()
	synctest.Wait()
	return done
}

func never(t *testing.T) fetch {
	return func(context.Context) (int, error) { t.Error("a fetch of its own ran"); return 0, nil }
}

func TestSixtyFourCallersShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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
		wantStaleStats(t, s, fallback.StaleStats{Fresh: 64, Stale: 64, Refreshes: 2, Keys: 1})
	})
}

func TestKeysDoNotShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
		first := start(t.Context(), s, nil, until(time.Hour, 1))
		if v, _, err := s.Do(t.Context(), nil, "other", value(2)); v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		<-first
	})
}

func TestALeaderThatCancelsLeavesAtOnceAndTheOthersGetTheirValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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

func TestACallerWhoseDeadlinePassesGetsTheRememberedValueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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

func TestTheLastCallerToLeaveCancelsTheFetchAndWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
		ended := false
		slow := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // to tidy up
			ended = true
			return -1, errors.Join(errBoom, context.Cause(ctx))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		first, last := start(ctx, s, nil, slow), start(ctx, s, nil, never(t))
		cancel(errOwn)
		synctest.Wait()
		fresh := start(t.Context(), s, nil, value(3)) // does not join what is canceled
		if r := <-fresh; r.v != 3 || r.err != nil {
			t.Errorf("a new caller got %+v", r)
		}
		a, b := <-first, <-last
		if a.took > b.took {
			a, b = b, a
		}
		if a.took != 0 || !errors.Is(a.err, context.Canceled) {
			t.Errorf("who left first got %+v", a)
		}
		if b.took != time.Second || !errors.Is(b.err, errBoom) || !errors.Is(b.err, errOwn) || !errors.Is(b.err, context.Canceled) || !ended {
			t.Errorf("who left last got %+v", b)
		}
	})
}

func TestAValueThatComesAfterTheLastCallerHasGivenUpIsReturnedAndRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := <-start(ctx, s, nil, func(context.Context) (int, error) { time.Sleep(time.Minute); return 5, nil })
		if r.v != 5 || r.err != nil || r.age != 0 {
			t.Errorf("got %+v", r)
		}
		if v, ok := knows(t, s, "k"); v != 5 || !ok {
			t.Errorf("remembers %d, %v", v, ok)
		}
	})
}

func TestPoliciesSeeADeadlineAndTellItFromACancellation(t *testing.T) {
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
		"canceled for a deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
			return ctx, func() { cancel(nil) }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := mustStale(t, fallback.StaleConfig{})
				b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(1)}}))
				ctx, cancel := test.context(t.Context())
				defer cancel()
				want, limited := ctx.Deadline()
				r := <-start(ctx, s, b, func(ctx context.Context) (int, error) {
					if d, ok := ctx.Deadline(); ok != limited || !d.Equal(want) {
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

func TestTheFetchHasTheValuesOfTheFirstCaller(t *testing.T) {
	type key struct{}
	s := mustStale(t, fallback.StaleConfig{})
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

// Callers with a second each come one by one to a dependency that hangs at first.
// Nobody fails by the deadline of another, and a fetch that hangs is not shared for
// as long as callers come.
func TestTheDeadlineOfTheFirstCallerEndsARoundAndNotTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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
			came := time.Duration(i) * 100 * time.Millisecond
			switch {
			case r.err == nil && r.v != 3, r.err != nil && r.took != time.Second:
				t.Errorf("caller %d got %+v", i, r)
			case came >= 1100*time.Millisecond && r.err != nil:
				t.Errorf("caller %d could have had the third round: %+v", i, r)
			}
		}
		// Rounds at 0 s and, with the deadline of who came last before, 1 s; the
		// third succeeds at about 1.9 s and ends the flight; a new one begins.
		if rounds < 3 || time.Since(begun) > 3*time.Second {
			t.Errorf("%d rounds in %v", rounds, time.Since(begun))
		}
	})
}

// hooked is a Clock that calls hook, once, when it is read.
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

func TestWhoComesAsTheDeadlineOfAnotherHasEndedTheFetchStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &hooked{Clock: clock.NewMock()}
		s := mustStale(t, fallback.StaleConfig{Clock: c})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var late <-chan result
		first := start(ctx, s, nil, func(ctx context.Context) (int, error) {
			hook := func() { late = start(t.Context(), s, nil, value(9)) }
			c.hook.Store(&hook) // is called after the fetch, before its end is known to all
			return until(time.Minute, 1)(ctx)
		})
		if r := <-first; r.v != 9 || r.age == 0 || r.err != nil { // what the other has fetched
			t.Errorf("the first got %+v", r)
		}
		if r := <-late; r.v != 9 || r.age != 0 || r.err != nil {
			t.Errorf("who came late got %+v", r)
		}
	})
}

func TestNothingIsFetchedForCallersThatHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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
		wantStaleStats(t, s, fallback.StaleStats{Failed: 2, Refreshes: 1})
	})
}

func TestAFailureBeforeTheDeadlineIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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

func TestACallerWithoutADeadlineGetsARoundWithoutOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
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
		wantStaleStats(t, s, fallback.StaleStats{Fresh: 1, Failed: 1, Refreshes: 2, Keys: 1})
	})
}

func TestAPanicOrAGoexitOfTheFetchIsThatOfEveryCaller(t *testing.T) {
	for name, test := range map[string]struct {
		end  func()
		want any // what is recovered, nil for Goexit
	}{
		"panic":                     {func() { panic(errBoom) }, errBoom},
		"Goexit":                    {runtime.Goexit, nil},
		"a panic that Goexit meets": {func() { defer func() { panic(errBoom) }(); runtime.Goexit() }, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := mustStale(t, fallback.StaleConfig{})
				learn(t, s, "k", 1)
				var all sync.WaitGroup
				var ended, wrong atomic.Int32
				for range 8 {
					all.Go(func() {
						defer func() {
							ended.Add(1)
							if recover() != test.want {
								wrong.Add(1)
							}
						}()
						_, _, _ = s.Do(t.Context(), nil, "k", func(context.Context) (int, error) {
							time.Sleep(time.Second)
							test.end()
							return 0, nil
						})
						wrong.Add(1)
					})
				}
				all.Wait()
				if ended.Load() != 8 || wrong.Load() != 0 {
					t.Errorf("%d ended, %d of them not as the fetch", ended.Load(), wrong.Load())
				}
				var ran []error // of the context
				if v, _, err := s.Do(t.Context(), nil, "k", func(ctx context.Context) (int, error) {
					ran = append(ran, ctx.Err())
					return -1, errBoom
				}); v != 1 || err != nil || len(ran) != 1 || ran[0] != nil {
					t.Errorf("afterwards: %d, %v, of fetches %v", v, err, ran)
				}
				learn(t, s, "k", 2)
				wantStaleStats(t, s, fallback.StaleStats{Fresh: 2, Stale: 1, Failed: 8, Refreshes: 4, Keys: 1})
			})
		})
	}
}

func TestAPanicAfterAllHaveGivenUpReachesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		defer func() {
			if r := recover(); r != any(errBoom) {
				t.Errorf("recovered %v", r)
			}
		}()
		v, _, err := s.Do(ctx, nil, "k", func(ctx context.Context) (int, error) { <-ctx.Done(); panic(errBoom) })
		t.Errorf("returned %d, %v", v, err)
	})
}

func TestIfMayPanicAndIsCountedAsAFailure(t *testing.T) {
	s := mustStale(t, fallback.StaleConfig{If: func(error) bool { panic(errOwn) }})
	learn(t, s, "k", 1)
	func() {
		defer func() {
			if r := recover(); r != any(errOwn) {
				t.Errorf("recovered %v", r)
			}
		}()
		_, _, _ = s.Do(t.Context(), nil, "k", failed(errBoom))
	}()
	learn(t, s, "k", 2) // nothing is locked
	wantStaleStats(t, s, fallback.StaleStats{Fresh: 2, Failed: 1, Refreshes: 3, Keys: 1})
}

// Callers come, cancel and time out, many of them at one instant. Each is answered
// by its own key and never by the end of another's context; nothing is left behind.
func TestAHammeredStaleMixesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustStale(t, fallback.StaleConfig{Max: 2})
		few := func() time.Duration { return time.Duration(rand.IntN(5)) * time.Millisecond }
		var running atomic.Int32
		var all sync.WaitGroup
		const goroutines, each = 16, 200
		for g := range goroutines {
			all.Go(func() {
				for i := range each {
					ctx, cancel := context.WithCancel(t.Context())
					switch g % 4 {
					case 1, 2:
						ctx, cancel = context.WithTimeout(t.Context(), few())
					case 3:
						time.AfterFunc(few(), cancel)
					}
					key := (g + i) % 3
					v, age, err := s.Do(ctx, nil, fmt.Sprint(key), func(ctx context.Context) (int, error) {
						running.Add(1)
						defer running.Add(-1)
						if v, err := until(few(), key)(ctx); err != nil {
							return v, err
						}
						return key, []error{nil, nil, nil, errBoom}[rand.IntN(4)]
					})
					d, limited := ctx.Deadline()
					over := ctx.Err() != nil || limited && time.Until(d) <= 0
					if err == nil && v != key || err != nil && age != 0 || err != nil && err != errBoom && !over {
						t.Errorf("key %d: %d of age %v, %v", key, v, age, err)
					}
					cancel()
				}
			})
		}
		all.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d fetches outlive their callers", n)
		}
		c := s.Stats()
		if n := c.Fresh + c.Stale + c.Failed; n > goroutines*each || n < goroutines*each/2 || c.Refreshes > n || c.Keys > 2 {
			t.Errorf("counted %+v", c)
		}
	})
}
