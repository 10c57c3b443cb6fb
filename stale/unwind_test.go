package stale_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/stale"
)

// A panic or Goexit of the fetch happens in every caller.
func TestStale_unwinds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func()
		want any // the recovered value, nil for Goexit
	}{
		"panic":                 {func() { panic(errBoom) }, errBoom},
		"Goexit":                {runtime.Goexit, nil},
		"a panic during Goexit": {func() { defer func() { panic(errBoom) }(); runtime.Goexit() }, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := must(t, stale.Config{})
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
				var ran []error // the context's
				if v, _, err := s.Do(t.Context(), nil, "k", func(ctx context.Context) (int, error) {
					ran = append(ran, ctx.Err())
					return -1, errBoom
				}); v != 1 || err != nil || len(ran) != 1 || ran[0] != nil {
					t.Errorf("afterwards: %d, %v, of fetches %v", v, err, ran)
				}
				learn(t, s, "k", 2)
				wantStats(t, s, stale.Stats{Fresh: 2, Stale: 1, Failed: 8, Refreshes: 4, Keys: 1})
			})
		})
	}
}

// A panic after all callers have left reaches the last caller.
func TestStale_panicReachesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{})
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

// A panic of If continues, and counts as a failure.
func TestConfig_If_panics(t *testing.T) {
	s := must(t, stale.Config{If: func(error) bool { panic(errOwn) }})
	learn(t, s, "k", 1)
	func() {
		defer func() {
			if r := recover(); r != any(errOwn) {
				t.Errorf("recovered %v", r)
			}
		}()
		_, _, _ = s.Do(t.Context(), nil, "k", failed(errBoom))
	}()
	learn(t, s, "k", 2) // no lock is held
	wantStats(t, s, stale.Stats{Fresh: 2, Failed: 1, Refreshes: 3, Keys: 1})
}

// Callers arrive, cancel and time out, many at one instant. Each gets an answer for its
// own key, and never the end of another caller's context. No fetch outlives its callers.
func TestStale_concurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(t, stale.Config{Max: 2})
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
					d, hasDeadline := ctx.Deadline()
					over := ctx.Err() != nil || hasDeadline && time.Until(d) <= 0
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
