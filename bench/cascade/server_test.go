package cascade_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"golang.org/x/sync/semaphore"
)

var errRefused = errors.New("connection refused")

// An answer is what a request gets.
type answer int

const (
	serves  answer = iota
	refuses        // at once
	hangs          // never says anything
	gaveUp         // at once, with an error that is a timeout
	fails          // at once with a 503
	sheds          // at once with a 429
	garbles        // takes as long as it would to serve, and fails
)

// errShed is a 429, as httpmw returns it to policies: the dependency works, and the call may
// be tried again.
type errShed struct{}

func (errShed) Error() string               { return "429 Too Many Requests" }
func (errShed) Outcome() resilience.Outcome { return resilience.Success }
func (errShed) Busy() bool                  { return true }
func (errShed) Retryable() bool             { return true }

// errGaveUp is the error of a dependency that has not waited for another one.
type errGaveUp struct{}

func (errGaveUp) Error() string { return "gave up waiting" }
func (errGaveUp) Timeout() bool { return true }

// A service is how well a dependency works. Each worker serves one request at a time.
type service struct {
	workers int64
	mean    time.Duration
	takes   quantile // nil: the time for a request is exponentially distributed
}

// capacity is in requests a second.
func (s service) capacity() float64 { return float64(s.workers) / s.mean.Seconds() }

// busy returns the time that a worker needs for a request in good times.
func (s service) busy(luck *rand.Rand) time.Duration {
	if s.takes == nil {
		return time.Duration(luck.ExpFloat64() * float64(s.mean))
	}
	return time.Duration(s.takes(luck.Float64()) * float64(s.mean))
}

// narrow is a normal distribution with a standard deviation of 5 %.
func narrow(u float64) float64 { return 1 + 0.05*math.Sqrt2*math.Erfinv(2*u-1) }

// A server is a dependency and its trouble.
type server struct {
	service
	// reply says what a request gets that comes so long after the trouble has
	// begun. nil: all are served.
	reply func(at time.Duration, luck *rand.Rand) answer
	// work returns how long a worker needs that begins so long after the trouble
	// has begun, for what takes busy in good times. nil: just that.
	work func(at, busy time.Duration) time.Duration
	// deaf says that a request stays in the queue when its caller has left.
	deaf bool

	begin       time.Time           // of the trouble
	from, until time.Duration       // when requests are counted
	queue       *semaphore.Weighted // of the workers: first in, first out
	asked       atomic.Int64        // requests that were counted

	mu   sync.Mutex  // guards free
	free []time.Time // when each worker of a deaf server has done all requests
}

func newServer(s service, begin time.Time, reply func(time.Duration, *rand.Rand) answer) *server {
	return &server{service: s, begin: begin, reply: reply, queue: semaphore.NewWeighted(s.workers)}
}

// serve is a request. It leaves the queue when ctx ends, unless the server is deaf; a
// worker that has it already does not notice.
func (s *server) serve(ctx context.Context, luck *rand.Rand) error {
	at := time.Since(s.begin)
	if s.from <= at && at < s.until {
		s.asked.Add(1)
	}
	if at >= 0 && s.reply != nil {
		switch s.reply(at, luck) {
		case refuses:
			return errRefused
		case gaveUp:
			return errGaveUp{}
		case fails:
			return errUnavailable
		case sheds:
			return errShed{}
		case hangs:
			<-ctx.Done()
			return ctx.Err()
		}
	}
	busy := s.service.busy(luck)
	if s.deaf {
		return until(ctx, s.enqueue(busy))
	}
	if err := s.queue.Acquire(ctx, 1); err != nil {
		return err
	}
	free := time.Now().Add(s.busyAt(time.Now(), busy))
	err := until(ctx, free)
	if err == nil {
		s.queue.Release(1)
	} else {
		time.AfterFunc(time.Until(free), func() { s.queue.Release(1) })
	}
	return err
}

// until waits until the time done, or returns the error of ctx if that ends before.
func until(ctx context.Context, done time.Time) error {
	timer := time.NewTimer(time.Until(done))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		timer.Stop()
		return ctx.Err()
	}
}

// busyAt returns how long a worker needs that begins at that time, for what takes busy in
// good times.
func (s *server) busyAt(now time.Time, busy time.Duration) time.Duration {
	if at := now.Sub(s.begin); at >= 0 && s.work != nil {
		return s.work(at, busy)
	}
	return busy
}

// enqueue puts a request that stays there into the queue, and returns when a worker will
// have done it: the first worker that is free begins it.
func (s *server) enqueue(busy time.Duration) (done time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == nil {
		s.free = make([]time.Time, s.workers)
	}
	first := 0
	for i, t := range s.free {
		if t.Before(s.free[first]) {
			first = i
		}
	}
	start := time.Now()
	if s.free[first].After(start) {
		start = s.free[first]
	}
	s.free[first] = start.Add(s.busyAt(start, busy))
	return s.free[first]
}
