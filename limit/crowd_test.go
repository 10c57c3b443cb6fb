package limit_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// work is a Clock of a machine on which only handlers take time.
type work struct {
	clock.Clock
	nanos atomic.Int64
}

func (w *work) Now() time.Time                    { return time.Unix(0, w.nanos.Load()) }
func (w *work) Since(t time.Time) time.Duration   { return w.Now().Sub(t) }
func (w *work) compute(d time.Duration) time.Time { return time.Unix(0, w.nanos.Add(int64(d))) }

// A Limit sees the requests that wait for a processor, if the wait is long.
func TestLimit_seesProcessorQueue(t *testing.T) {
	if most := mostInFlight(t, time.Millisecond); most < 64 {
		t.Errorf("300 requests waited for one processor for 300ms, and the limit saw %d", most)
	}
}

// A crowd of short requests does not give way, so the limit does not see it.
func TestLimit_shortRequestsKeepProcessor(t *testing.T) {
	if most := mostInFlight(t, 50*time.Microsecond); most > 8 {
		t.Errorf("300 requests waited for one processor for 15ms, and %d of them were in flight at once", most)
	}
}

// mostInFlight returns how many of 300 requests a limit has in flight at once, if they come
// at once and each computes for d on the one processor there is. The result follows from
// the order in which the scheduler runs the goroutines, not from its speed.
func mostInFlight(t *testing.T, d time.Duration) (most int) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := &work{Clock: clock.New()}
	l := newLimit(t, limit.Config{Clock: w})
	var mu sync.Mutex // guards most
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			err := resilience.Run(t.Context(), l, func(context.Context) error {
				n := l.Stats().InFlight
				mu.Lock()
				most = max(most, n)
				mu.Unlock()
				w.compute(d)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return most
}

// Twice as many requests come as one processor can serve. That they wait less for it with fewer in
// the handler is the proof of the overload. In one run of a hundred the throughput is, because the
// scheduler runs requests in a different order.
func TestLimit_waitingForAProcessorIsProof(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var why string
	for range 10 {
		if why = firstTrial(t); strings.Contains(why, "halved their wait for a processor") {
			return
		}
	}
	t.Error(why)
}

// firstTrial has twice as many requests come as the processor can serve until a trial has ended,
// and returns what the limit says of it.
func firstTrial(t *testing.T) (why string) {
	w := &work{Clock: clock.New()}
	l := newLimit(t, limit.Config{Clock: w})
	var mu sync.Mutex // guards why
	request := func() {
		err := resilience.Run(t.Context(), l, func(context.Context) error {
			w.compute(time.Millisecond)
			return nil
		})
		if err != nil && !errors.Is(err, limit.ErrLimited) {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if why == "" && l.Stats().Trials != (limit.Trials{}) {
			why = l.Report(true).Why
		}
	}
	for range 500 {
		request()
	}
	var all sync.WaitGroup
	for last := w.nanos.Load() - int64(10*time.Millisecond); l.Stats().Trials == (limit.Trials{}); {
		now := w.nanos.Load()
		if now > int64(5*time.Second) {
			break
		}
		for range 2 * time.Duration(now-last) / time.Millisecond {
			all.Go(request)
		}
		last = now
		runtime.Gosched()
	}
	all.Wait()
	return why
}
