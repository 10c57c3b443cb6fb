package limit_test

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// overloaded is an overload long ago, of a service that is capable of 1000 requests of
// 10 ms in a second.
func overloaded(s *simulated) {
	s.steady(10*time.Second, 2000, time.Second, 10*ms)
	time.Sleep(10 * time.Second)
}

// burst has n callers come within so long, and then none for the rest of each period.
func bursts(times, n int, within, period, patience time.Duration) func(s *simulated) {
	return func(s *simulated) {
		for range times {
			for range n {
				s.start(patience, s.about(10*ms))
				time.Sleep(within / time.Duration(n))
			}
			time.Sleep(period - within)
		}
	}
}

// A burst that the service can serve in time is not rejected.
func TestLimit_bursts(t *testing.T) {
	for name, l := range map[string]load{
		"300 at once, each second":               {10, nil, bursts(20, 300, 0, time.Second, 5*time.Second), 1},
		"700 at once, each second":               {10, nil, bursts(20, 700, 0, time.Second, 5*time.Second), 1},
		"200 in 20 ms, after an overload":        {10, overloaded, bursts(20, 200, 20*ms, time.Second, 5*time.Second), 1},
		"700 in 70 ms, after an overload":        {10, overloaded, bursts(20, 700, 70*ms, time.Second, 5*time.Second), 1},
		"1500 at once each minute":               {10, nil, bursts(10, 1500, 0, time.Minute, 30*time.Second), 1},
		"1500 at once, of a service with no end": {0, nil, bursts(10, 1500, 0, time.Second, 5*time.Second), 1},
	} {
		t.Run(name, l.costsNothing)
	}
}

// Clients that wait for each answer before they send again are not rejected.
func TestLimit_closedLoop(t *testing.T) {
	l := load{10, nil, func(s *simulated) {
		end := time.Now().Add(10 * time.Second)
		for range 300 {
			work := s.about(10 * ms)
			s.all.Go(func() {
				for time.Now().Before(end) {
					if s.call(5*time.Second, work) != nil {
						time.Sleep(10 * ms)
					}
				}
			})
		}
	}, 1}
	l.costsNothing(t)
}

// The limit rises far enough for slow requests. Meanwhile requests are queued, at most
// MaxQueue of them.
func TestLimit_slowRequests(t *testing.T) {
	for name, test := range map[string]struct {
		rps            float64
		work, patience time.Duration
		costs          float64
	}{
		"30 s, 300 in flight":  {10, 30 * time.Second, time.Minute, 1},
		"30 s, 1500 in flight": {50, 30 * time.Second, time.Minute, 1},
		"5 s, 500 in flight":   {100, 5 * time.Second, 20 * time.Second, 1},
		"2 s, 200 in flight":   {100, 2 * time.Second, 5 * time.Second, 1},
		"1 s, 1000 at once":    {1000, time.Second, 5 * time.Second, 20},
	} {
		t.Run(name, load{0, nil, func(s *simulated) {
			s.steady(max(20*time.Second, 10*test.work), test.rps, test.patience, test.work)
		}, test.costs}.costsNothing)
	}
}

// Callers that leave for reasons of their own cost the other callers nothing.
func TestLimit_impatientCallers(t *testing.T) {
	for name, test := range map[string]struct {
		share float64
		rps   float64
		work  time.Duration
	}{
		"15 %": {.15, 100, 100 * ms},
		"30 %": {.3, 100, 100 * ms},
		"50 %": {.5, 200, 200 * ms},
		"80 %": {.8, 200, 200 * ms},
	} {
		t.Run(name, load{0, nil, func(s *simulated) {
			for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
				patience := 2 * time.Second
				if s.luck.Float64() < test.share {
					patience = test.work / 4
				}
				s.start(patience, s.about(test.work))
				time.Sleep(time.Duration(s.luck.ExpFloat64() / test.rps * float64(time.Second)))
			}
		}, 2}.costsNothing)
	}
}

// Many callers that leave at one instant, as in a restart, are no overload.
func TestLimit_callersLeaveAtOnce(t *testing.T) {
	l := load{100, func(s *simulated) {
		s.steady(10*time.Second, 600, 2*time.Second, 100*ms)
		s.steady(1500*ms, 1500, 2*time.Second, 100*ms)
		s.steady(10*time.Second, 600, 2*time.Second, 100*ms)
	}, func(s *simulated) {
		restart := time.Now().Add(500 * ms)
		for time.Now().Before(restart) {
			s.start(time.Until(restart)+1, s.about(100*ms))
			time.Sleep(time.Duration(s.luck.ExpFloat64() / 600 * float64(time.Second)))
		}
		s.steady(20*time.Second, 600, 2*time.Second, 100*ms)
	}, 1}
	l.costsNothing(t)
}

// A slower dependency is no overload. It needs a higher limit, which takes some trials
// to find, because it first looks like a service that does less.
func TestLimit_slowerDependency(t *testing.T) {
	normal := func(s *simulated) { s.steady(10*time.Second, 600, 2*time.Second, 100*ms) }
	slower := func(s *simulated) {
		s.free.Store(true)
		s.steady(15*time.Second, 600, 2*time.Second, 600*ms)
	}
	for name, before := range map[string]func(s *simulated){
		"from the start": func(s *simulated) { normal(s); slower(s) },
		"after an overload": func(s *simulated) {
			normal(s)
			s.steady(10*time.Second, 1500, 2*time.Second, 100*ms)
			normal(s)
			slower(s)
		},
	} {
		t.Run(name, load{100, before, func(s *simulated) { s.steady(20*time.Second, 600, 2*time.Second, 600*ms) }, 5}.costsNothing)
	}
}
