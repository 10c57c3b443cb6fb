package limit_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/limit"
)

// A Limit that is reached queues requests and rejects none.
func TestLimit_reachedIsNoRejection(t *testing.T) {
	for name, send := range map[string]func(*service, *limit.Limit){
		"90 are needed":         func(s *service, l *limit.Limit) { s.load(l, time.Second/900, 5*time.Second, nil) },
		"1500 come at one time": func(s *service, l *limit.Limit) { s.load(l, 1, 1500, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{})
				s := newService(1000, 100*time.Millisecond)
				send(s, l)
				s.calls.Wait()
				if got := l.Stats(); got.Shed+got.QueueFull > 0 || s.errs[limit.ErrLimited] > 0 {
					t.Errorf("refused: %+v", got)
				}
			})
		})
	}
}

// No request is shed before a trial has shown that a higher limit does not help.
func TestLimit_rejectsOnlyAfterTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{})
		s := newService(4, 10*time.Millisecond)
		s.load(l, time.Millisecond, 10*time.Second, func() bool {
			got := l.Stats()
			if r := got.Trials; got.Shed > 0 && (got.Overloads == 0 || r.NotRaised+r.Lowered+r.NotLowered == 0) {
				t.Fatalf("refused without a proof: %+v", got)
			}
			return got.Shed > 0
		})
		s.calls.Wait()
		if l.Stats().Shed == 0 {
			t.Errorf("nothing shed in an overload: %+v", l.Stats())
		}
	})
}

// A request is shed only after it was queued for the service time, and for at least 12
// ms.
func TestLimit_queuedBeforeShed(t *testing.T) {
	for name, c := range map[string]struct{ takes, least time.Duration }{
		"a slow handler":  {40 * time.Millisecond, 40 * time.Millisecond},
		"a quick handler": {time.Millisecond, 12 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{MaxQueue: 1 << 20})
				s := newService(4, c.takes)
				s.overwhelm(t, l)
				s.load(l, c.takes/10, 2*time.Second, nil)
				s.calls.Wait()
				if len(s.refused) < 50 {
					t.Errorf("%d were refused: %+v", len(s.refused), l.Stats())
				}
				if least := slices.Min(s.refused); least <= c.least {
					t.Errorf("refused after %v, want more than %v", least, c.least)
				}
				// Most do not wait for much longer either.
				slices.Sort(s.refused)
				if median := s.refused[len(s.refused)/2]; median > 5*c.least {
					t.Errorf("half are refused after %v", median)
				}
				atRest(t, l, len(s.started)+len(s.refused)+int(l.Stats().Canceled))
			})
		})
	}
}

// In an overload the handler keeps its full throughput.
func TestLimit_overloadThroughput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{})
		s := newService(4, 10*time.Millisecond)
		s.overwhelm(t, l)
		before := l.Stats()
		s.load(l, time.Millisecond, 10*time.Second, nil)
		if done := l.Stats().Useful - before.Useful; done < 3900 {
			t.Errorf("%d of 4000 that four workers can do in 10 s", done)
		}
		s.calls.Wait()
	})
}

// The queue is first in, first out while it does not grow.
func TestLimit_queueIsFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Max: 1})
		s := newService(1, time.Millisecond)
		for i := range 20 {
			s.call(l, i, time.Second)
			synctest.Wait()
		}
		s.calls.Wait()
		if !slices.IsSorted(s.started) || len(s.started) != 20 {
			t.Errorf("started in the order %v", s.started)
		}
	})
}

// In an overload the newest request in the queue goes first.
func TestLimit_overloadNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{})
		s := newService(4, 10*time.Millisecond)
		s.overwhelm(t, l)
		s.calls.Wait()
		s.started = nil
		s.load(l, time.Millisecond, 5*time.Second, nil)
		s.calls.Wait()
		overtaken, longest := 0, 0
		for i := 1; i < len(s.started); i++ {
			if s.started[i] < s.started[i-1] {
				overtaken++
			}
			longest = max(longest, s.started[i-1]-s.started[i])
		}
		// Who started late was the newest then: few came between it and the start.
		if overtaken == 0 || longest > 60 {
			t.Errorf("%d of %d were overtaken, by %d at most", overtaken, len(s.started), longest)
		}
	})
}

// An overload ends when the load is below the capacity, and no request is shed after it.
func TestLimit_overloadEnds(t *testing.T) {
	for name, after := range map[string]func(*service, *limit.Limit){
		"nothing comes":                 func(*service, *limit.Limit) { time.Sleep(3 * time.Second) },
		"seven tenths of the capacity":  func(s *service, l *limit.Limit) { s.load(l, 3600*time.Microsecond, 4*time.Second, nil) },
		"one now and then":              func(s *service, l *limit.Limit) { s.load(l, 400*time.Millisecond, 4*time.Second, nil) },
		"ten a second, evenly spaced":   func(s *service, l *limit.Limit) { s.load(l, 100*time.Millisecond, 4*time.Second, nil) },
		"hundred at once, then nothing": func(s *service, l *limit.Limit) { s.load(l, 1, 100, nil); time.Sleep(4 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{})
				s := newService(4, 10*time.Millisecond)
				s.overwhelm(t, l)
				s.load(l, time.Millisecond, 2*time.Second, nil)
				after(s, l)
				s.calls.Wait()
				got := l.Stats()
				if got.Overload || got.InFlight != 0 || got.Queued != 0 {
					t.Errorf("not over: %+v", got)
				}
				s.load(l, 3600*time.Microsecond, 2*time.Second, nil)
				s.calls.Wait()
				if now := l.Stats(); now.Shed != got.Shed {
					t.Errorf("%d refused after it was over", now.Shed-got.Shed)
				}
			})
		})
	}
}

// At most MaxQueue requests are queued.
func TestConfig_maxQueue(t *testing.T) {
	for name, c := range map[string]struct {
		config limit.Config
		want   int
	}{
		"none":        {limit.Config{Max: 2, MaxQueue: -1}, 0},
		"one":         {limit.Config{Max: 2, MaxQueue: 1}, 1},
		"seven":       {limit.Config{Max: 2, MaxQueue: 7}, 7},
		"the default": {limit.Config{Max: 64}, 1640},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, c.config)
				most := l.Stats().Limit
				s := newService(most, time.Second)
				for i := range most + c.want + 3 {
					s.call(l, i, time.Hour)
				}
				synctest.Wait()
				if got := l.Stats(); got.InFlight != most || got.Queued != c.want || got.QueueFull != 3 {
					t.Errorf("%+v, want %d waiting", got, c.want)
				}
				s.calls.Wait()
				atRest(t, l, most+c.want+3)
			})
		})
	}
}

// Without a queue only Max rejects requests.
func TestConfig_noQueue(t *testing.T) {
	for _, most := range []int{0, 20} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimit(t, limit.Config{Max: most, MaxQueue: limit.NoQueue})
			s := newService(4, 10*time.Millisecond)
			s.load(l, 5*time.Millisecond, time.Second, nil)
			s.load(l, time.Millisecond, 5*time.Second, nil)
			s.calls.Wait()
			got := l.Stats()
			if got.Shed > 0 || most == 0 && got.QueueFull > 0 || most > 0 && got.QueueFull == 0 {
				t.Errorf("Max %d: %+v", most, got)
			}
		})
	}
}

// At most Max requests are in flight.
func TestConfig_max(t *testing.T) {
	for _, most := range []int{1, 2, 3, 4, 5, 64, 100} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimit(t, limit.Config{Max: most})
			s := newService(1000, 10*time.Millisecond)
			gap := 10 * time.Millisecond / time.Duration(2*most)
			seen := 0
			s.load(l, gap, time.Second, func() bool {
				got := l.Stats()
				seen = max(seen, got.InFlight, got.Limit)
				return false
			})
			if seen > most || seen < min(most, 64) {
				t.Errorf("%d in flight, Max %d", seen, most)
			}
			s.calls.Wait()
		})
	}
}

// A queued request leaves the queue at the instant at which its context ends.
func TestLimit_queuedContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Max: 1})
		s := newService(1, time.Hour)
		s.call(l, 0, 2*time.Hour)
		synctest.Wait()
		start := time.Now()
		for i := range 100 {
			s.call(l, 1+i, time.Duration(1+i)*time.Millisecond)
		}
		for i := range 100 {
			time.Sleep(time.Until(start.Add(time.Duration(1+i) * time.Millisecond)))
			synctest.Wait()
			if got := l.Stats(); got.Queued != 99-i || got.Canceled != uint64(1+i) {
				t.Fatalf("after %d ms: %+v", 1+i, got)
			}
		}
		if n := s.errs[context.DeadlineExceeded]; n != 100 {
			t.Errorf("the errors are %v", s.errs)
		}
		s.calls.Wait()
		atRest(t, l, 101)
	})
}

// In shadow mode a Limit rejects nothing and counts what it would have rejected.
func TestConfig_shadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Shadow: true})
		s := newService(4, 10*time.Millisecond)
		waiting := 0
		s.load(l, time.Millisecond, 10*time.Second, func() bool {
			waiting = max(waiting, l.Stats().Queued)
			return false
		})
		got := l.Stats()
		s.calls.Wait()
		if s.errs[limit.ErrLimited] > 0 || waiting > 0 || got.Canceled > 0 {
			t.Errorf("%v, %d waited: %+v", s.errs, waiting, got)
		}
		if got.Shed == 0 || got.Overloads == 0 || got.Trials != (limit.Trials{}) {
			t.Errorf("it says %+v", got)
		}
		time.Sleep(3 * time.Second)
		if l.Stats().Overload || l.Stats().InFlight > 0 {
			t.Errorf("not over: %+v", l.Stats())
		}
	})
}
