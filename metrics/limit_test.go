package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
)

func newLimit(c limit.Config) *limit.Limit { return resilience.Must(limit.New(c)) }

// bounded returns the series of a limit that is fixed at 1 and so has no trials.
func bounded(useful, gone, queueFull, canceled, inFlight, waiting float64) scraped {
	return scraped{
		series("limit_calls_total", "l", "outcome", "useful"):     useful,
		series("limit_calls_total", "l", "outcome", "gone"):       gone,
		series("limit_calls_total", "l", "outcome", "queue_full"): queueFull,
		series("limit_calls_total", "l", "outcome", "canceled"):   canceled,
		series("limit_in_flight", "l"):                            inFlight,
		series("limit_waiting", "l"):                              waiting,
		series("limit_in_force", "l"):                             1,
		series("limit_overload", "l"):                             0,
		series("limit_overloads_total", "l"):                      0,
	}
}

// A request of a limit is counted by outcome, whether the limit is alone or in a group.
func TestCollector_limitCalls(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimit(limit.Config{Name: "l", Max: 1, MaxQueue: 1})
			var p resilience.Policy = l
			if grouped {
				p = newGroup(t, l, keyed.Config{}).For("key")
			}
			reg, _ := register(t, p)
			leave := make(chan struct{})
			call := func(ctx context.Context) {
				_ = resilience.Run(ctx, p, func(context.Context) error { <-leave; return nil })
			}
			ctx, cancel := context.WithCancel(t.Context())
			go call(ctx)
			synctest.Wait()
			scrape(t, reg).check(t, "l", bounded(0, 0, 0, 0, 1, 0))

			waits, giveUp := context.WithCancel(t.Context())
			go call(waits)
			synctest.Wait()
			if err := run(p, nil); !errors.Is(err, limit.ErrLimited) {
				t.Errorf("error %v", err)
			}
			scrape(t, reg).check(t, "l", bounded(0, 0, 1, 0, 1, 1))
			giveUp()
			synctest.Wait()
			scrape(t, reg).check(t, "l", bounded(0, 0, 1, 1, 1, 0))

			cancel() // the caller of the request in the handler leaves
			leave <- struct{}{}
			synctest.Wait()
			scrape(t, reg).check(t, "l", bounded(0, 1, 1, 1, 0, 0))
			if err := run(p, errDown); err != errDown {
				t.Errorf("error %v", err)
			}
			scrape(t, reg).check(t, "l", bounded(1, 1, 1, 1, 0, 0)) // an error is an answer too
		})
	}
}

// service is a handler with four workers that take 10 ms for a request.
type service struct {
	policy   resilience.Policy
	patience time.Duration // of each caller
	workers  chan struct{}
	wg       sync.WaitGroup
}

func serve(p resilience.Policy, patience time.Duration) *service {
	return &service{policy: p, patience: patience, workers: make(chan struct{}, 4)}
}

func (s *service) request(ctx context.Context) {
	_ = resilience.Run(ctx, s.policy, func(ctx context.Context) error {
		select {
		case s.workers <- struct{}{}:
			time.Sleep(10 * time.Millisecond)
			<-s.workers
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// load sends perSecond requests a second for d. It returns when all goroutines wait.
func (s *service) load(perSecond int, d time.Duration) {
	for range int(d.Seconds() * float64(perSecond)) {
		s.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), s.patience)
			defer cancel()
			s.request(ctx)
		})
		time.Sleep(time.Second / time.Duration(perSecond))
	}
	synctest.Wait()
}

// compare checks that the series of a limit equal s.
func compare(t *testing.T, now scraped, s limit.Stats) {
	t.Helper()
	overload := 0.0
	if s.Overload {
		overload = 1
	}
	now.check(t, "l", scraped{
		series("limit_overload", "l"): overload, series("limit_overloads_total", "l"): float64(s.Overloads),
		series("limit_in_force", "l"): float64(s.Limit), series("limit_knee", "l"): s.Knee,
		series("limit_in_flight", "l"): float64(s.InFlight), series("limit_waiting", "l"): float64(s.Queued),
		series("limit_calls_total", "l", "outcome", "useful"):       float64(s.Useful),
		series("limit_calls_total", "l", "outcome", "gone"):         float64(s.Abandoned),
		series("limit_calls_total", "l", "outcome", "shed"):         float64(s.Shed),
		series("limit_calls_total", "l", "outcome", "queue_full"):   float64(s.QueueFull),
		series("limit_calls_total", "l", "outcome", "canceled"):     float64(s.Canceled),
		series("limit_rejected_total", "l", "priority", "lowest"):   float64(s.Rejected[0]),
		series("limit_rejected_total", "l", "priority", "low"):      float64(s.Rejected[1]),
		series("limit_rejected_total", "l", "priority", "normal"):   float64(s.Rejected[2]),
		series("limit_rejected_total", "l", "priority", "critical"): float64(s.Rejected[3]),
		series("limit_tests_total", "l", "result", "raised"):        float64(s.Trials.Raised),
		series("limit_tests_total", "l", "result", "not_raised"):    float64(s.Trials.NotRaised),
		series("limit_tests_total", "l", "result", "lowered"):       float64(s.Trials.Lowered),
		series("limit_tests_total", "l", "result", "not_lowered"):   float64(s.Trials.NotLowered),
		series("limit_tests_total", "l", "result", "abandoned"):     float64(s.Trials.Inconclusive),
	})
}

// The metrics of a limit equal its Stats before, during and after an overload.
func TestCollector_limitOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(limit.Config{Name: "l"})
		reg, _ := register(t, l)
		s := serve(l, 500*time.Millisecond)
		defer s.wg.Wait()
		s.load(200, 2*time.Second) // half of its capacity
		compare(t, scrape(t, reg), limit.Stats{Counters: limit.Counters{Useful: l.Stats().Useful}, Gauges: limit.Gauges{InFlight: l.Stats().InFlight}})

		came := 400.0
		for tries := 0; !l.Stats().Overload || l.Stats().Shed == 0; tries++ {
			if tries == 200 {
				t.Fatalf("no overload: %+v", l.Stats())
			}
			s.load(1000, 100*time.Millisecond) // more than twice its capacity
			came += 100
		}
		compare(t, scrape(t, reg), l.Stats())
		s.wg.Wait()
		now, stats := scrape(t, reg), l.Stats()
		compare(t, now, stats)
		if sum := now.sum("limit_calls_total", "l"); sum != came {
			t.Errorf("%v requests by outcome, want %v", sum, came)
		}
		if stats.Trials == (limit.Trials{}) || stats.Knee == 0 {
			t.Errorf("nothing was tested: %+v", stats)
		}
	})
}

// In shadow mode every request is handled, and the shed ones are counted twice.
func TestCollector_limitShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(limit.Config{Name: "l", Shadow: true, MaxQueue: 100})
		reg, _ := register(t, l)
		s := serve(l, time.Minute)
		s.load(1000, 10*time.Second)
		s.wg.Wait()
		now, stats := scrape(t, reg), l.Stats()
		compare(t, now, stats)
		if stats.Shed+stats.QueueFull == 0 {
			t.Errorf("nothing was tested: %+v", stats)
		}
		if handled := stats.Useful + stats.Abandoned; handled != 10000 {
			t.Errorf("%d were handled, want all", handled)
		}
	})
}

// The limits of a group add up, with two keys overloaded and the others not.
func TestCollector_limitGroupSums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(limit.Config{Name: "l"})
		g := newGroup(t, l, keyed.Config{Name: "g"})
		reg, _ := register(t, g)
		scrape(t, reg).check(t, "l", scraped{series("limit_overload", "l"): 0, series("limit_in_force", "l"): 0})
		touch(t, g, 3)
		scrape(t, reg).check(t, "l", scraped{series("limit_overload", "l"): 0, series("limit_in_force", "l"): 0})
		scrape(t, reg).check(t, "l", scraped{series("limit_calls_total", "l", "outcome", "useful"): 3})

		for i := range 2 {
			p := g.For(fmt.Sprint("busy ", i))
			s := serve(p, 500*time.Millisecond)
			defer s.wg.Wait()
			for seconds := 0; l.Stats().Overloads == uint64(i); seconds++ {
				if seconds == 20 {
					t.Fatalf("no overload: %+v", l.Stats())
				}
				s.load(1000, time.Second)
			}
		}
		overloaded, knee, inForce := 0.0, 0.0, 0.0
		for _, p := range g.All() {
			s := p.(*limit.Limit).Stats()
			knee, inForce = knee+s.Knee, inForce+float64(s.Limit)
			if s.Overload {
				overloaded++
			}
		}
		got := scrape(t, reg)
		got.check(t, "l", scraped{series("limit_overload", "l"): overloaded, series("limit_in_force", "l"): inForce, series("limit_knee", "l"): knee})
		if overloaded == 0 || knee == 0 || got.sum("limit_overloads_total", "l") < 2 {
			t.Errorf("nothing was tested: %v", got)
		}
	})
}

// The outcomes add up to the requests, while callers leave and two goroutines scrape.
func TestCollector_limitExactSums(t *testing.T) {
	const workers, each = 8, 25_000
	l := newLimit(limit.Config{Name: "l", Max: 2, MaxQueue: 2})
	reg, _ := register(t, l)
	now := make(chan struct{})
	var scrapers sync.WaitGroup
	for range 2 {
		scrapers.Go(func() { scrapeOften(t, reg, now) })
	}
	var mu sync.Mutex
	var served, rejected, left float64
	testkit.AtOnce(workers, func(w int) {
		var ok, no, gone float64
		for i := range each {
			ctx, cancel := context.WithCancel(context.Background())
			if i%16 == 0 {
				go cancel() // in the queue, in the handler, or after the end
			}
			ran := false
			err := resilience.Run(ctx, l, func(context.Context) error { ran = true; runtime.Gosched(); return nil })
			switch {
			case ran:
				ok++
			case errors.Is(err, limit.ErrLimited):
				no++
			default:
				gone++
			}
			cancel()
			if i%1000 == 0 {
				select {
				case now <- struct{}{}:
				default: // both scrape
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		served, rejected, left = served+ok, rejected+no, left+gone
	})
	close(now)
	scrapers.Wait()
	got := scrape(t, reg)
	value := func(outcome string) float64 { return got[series("limit_calls_total", "l", "outcome", outcome)] }
	if v := value("useful") + value("gone"); v != served {
		t.Errorf("%v requests are counted as handled, want %v", v, served)
	}
	if v := value("shed") + value("queue_full"); v != rejected || v == 0 {
		t.Errorf("%v requests are counted as rejected, want %v", v, rejected)
	}
	if v := value("canceled"); v > left { // some contexts were done before Run
		t.Errorf("%v requests are counted as canceled, want at most %v", v, left)
	}
	if got.sum("limit_in_flight", "l")+got.sum("limit_waiting", "l") != 0 {
		t.Error("requests are still in flight or queued")
	}
}
