package limit_test

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// A trial whose load ended, for instance for a night, does not delay the next trial.
func TestLimit_trialWithoutLoad(t *testing.T) {
	for _, burst := range []time.Duration{80 * ms, 200 * ms, 260 * ms, 380 * ms} {
		t.Run(burst.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(1000, newLimit(t, limit.Config{}), 1)
				s.steady(burst, 4000, 2*time.Second, 100*ms)
				s.all.Wait()
				time.Sleep(8 * time.Hour)
				s.steady(10*time.Second, 4000, 2*time.Second, 100*ms)
				sent, ok := s.sent.Load(), s.ok.Load()
				s.steady(5*time.Second, 4000, 2*time.Second, 100*ms)
				s.all.Wait()
				if got := s.success(sent, ok); got < 99 {
					t.Errorf("%.1f %% succeed of a load that needs 400 of 1000 workers: %+v", got, s.front.(*limit.Limit).Stats())
				}
			})
		})
	}
}

// An overload at Max is found and costs no throughput, although the service could do
// more than Max allows.
func TestConfig_maxOverload(t *testing.T) {
	for _, most := range []int{1, 2, 3, 4, 5, 8, 64, 200} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{Max: most})
				s := simulate(0, l, 1)
				work := 10 * ms
				if most > 50 {
					work *= 5 // as many requests do
				}
				able := float64(most) / work.Seconds()
				s.steady(5*time.Second, 0.7*able, 5*time.Second, work)
				s.steady(5*time.Second, 2*able, 5*time.Second, work)
				sent, ok, tests := s.sent.Load(), s.ok.Load(), l.Stats().Trials
				s.steady(10*time.Second, 2*able, 5*time.Second, work)
				got := l.Stats()
				if !got.Overload {
					t.Errorf("Max %d: no overload found", most)
				}
				if done := 2 * s.success(sent, ok); done < 92 {
					t.Errorf("Max %d: %.1f %% of what is possible, %d tests in 10 s", most, done, got.Trials.NotLowered-tests.NotLowered)
				}
				if most < 4 && got.Trials != (limit.Trials{}) {
					t.Errorf("Max %d: something is tried: %+v", most, got.Trials)
				}
				s.all.Wait()
			})
		})
	}
}

// good is in percent of what the workers can do, from so long after the overload began.
func good(t *testing.T, workers int64, work, patience time.Duration, warm, over float64) (good float64) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{})
		s := simulate(workers, l, 1)
		most := float64(workers) / work.Seconds()
		if warm > 0 {
			s.steady(100*work+10*time.Second, warm*most, patience, work)
		}
		s.steady(20*work+10*time.Second, over*most, patience, work)
		ok, long := s.ok.Load(), time.Minute+20*work
		s.steady(long, over*most, patience, work)
		good = 100 * float64(s.ok.Load()-ok) / long.Seconds() / most
		t.Logf("%.1f %%, %+v", good, l.Stats())
		s.all.Wait()
	})
	return good
}

// A Limit finds an overload whether it begins cold or warm, with slow requests or
// impatient callers.
func TestLimit_overloadBegins(t *testing.T) {
	for name, c := range map[string]struct {
		workers        int64
		work, patience time.Duration
		warm, over     float64
		want           float64 // percent of what is possible; not found it is less than 50
	}{
		// hurry has raised the limit over all that callers wait for, and nothing is calm.
		"cold, slow, 100 workers": {100, 2 * time.Second, 10 * time.Second, 0, 3, 80},
		"cold, slow, 40 workers":  {40, 2 * time.Second, 10 * time.Second, 0, 3, 80},
		// the knee is above half of the first limit: what is calm stays unknown.
		"warm, 100 workers of 10 s": {100, 10 * time.Second, time.Minute, .5, 3, 80},
		// callers leave after less than twice the work.
		"warm, little patience": {10, 100 * ms, 200 * ms, .7, 3, 80},
		"less patience":         {10, 100 * ms, 180 * ms, .7, 3, 60},
		// calm is learned in the overload, since half of 64 is more than callers wait for.
		"cold, 4 workers of 200 ms": {4, 200 * ms, time.Second, 0, 1.5, 60},
	} {
		t.Run(name, func(t *testing.T) {
			if got := good(t, c.workers, c.work, c.patience, c.warm, c.over); got < c.want {
				t.Errorf("%.1f %% of what is possible", got)
			}
		})
	}
}

// asking is a Clock that uses the limit, or panics, when it is asked for a timer.
type asking struct {
	clock.Clock
	asked func()
}

func (a *asking) AfterFunc(d time.Duration, f func()) *clock.Timer {
	if a.asked != nil {
		a.asked()
	}
	return a.Clock.AfterFunc(d, f)
}

// A Limit holds no lock when it calls Clock.AfterFunc.
func TestLimit_timerWithoutLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &asking{Clock: clock.New()}
		l := newLimit(t, limit.Config{Clock: c})
		free := true
		c.asked = func() {
			var done atomic.Bool
			go func() { l.Idle(); done.Store(true) }()
			for i := 0; i < 1e5 && !done.Load(); i++ {
				runtime.Gosched()
			}
			free = done.Load()
		}
		s := newService(4, 10*time.Millisecond)
		s.overwhelm(t, l)
		s.calls.Wait()
		if !free {
			t.Error("the mutex is held")
		}
	})
}

// A few very long requests do not hide a later overload.
func TestLimit_fewLongRequests(t *testing.T) {
	for name, long := range map[string]time.Duration{"none": 0, "5 min": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{})
				s := simulate(4, l, 1)
				for range 10 {
					s.all.Go(func() {
						_ = resilience.Run(t.Context(), l, func(context.Context) error { time.Sleep(long); return nil })
					})
				}
				s.steady(long+time.Minute, 20, 500*ms, 100*ms)
				s.steady(20*time.Second, 80, 500*ms, 100*ms)
				ok := s.ok.Load()
				s.steady(time.Minute, 80, 500*ms, 100*ms)
				if got := 100 * float64(s.ok.Load()-ok) / 60 / 40; got < 90 {
					t.Errorf("%.1f %% of what is possible: %+v", got, l.Stats())
				}
				s.all.Wait()
			})
		})
	}
}
