package cascade_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

var errRefused = errors.New("connection refused")

// An answer is what a request gets.
type answer int

const (
	serves  answer = iota
	refuses        // at once
	hangs          // never says anything
)

// A service is how well a dependency works. Each worker serves one request at a
// time, in a time that is exponentially distributed.
type service struct {
	workers int64
	mean    time.Duration
}

// A server is a dependency and its trouble.
type server struct {
	service
	// reply says what a request gets that comes so long after the trouble has
	// begun. nil: all are served.
	reply func(at time.Duration, luck *rand.Rand) answer
	// work returns how long a worker needs that begins so long after the trouble
	// has begun, for what takes busy in good times. nil: just that.
	work func(at, busy time.Duration) time.Duration

	begin       time.Time           // of the trouble
	from, until time.Duration       // when requests are counted
	queue       *semaphore.Weighted // of the workers: first in, first out
	asked       atomic.Int64        // requests that were counted
}

func newServer(s service, begin time.Time, reply func(time.Duration, *rand.Rand) answer) *server {
	return &server{service: s, begin: begin, reply: reply, queue: semaphore.NewWeighted(s.workers)}
}

// serve is a request. It leaves the queue when ctx ends; a worker that has it
// already does not notice.
func (s *server) serve(ctx context.Context, luck *rand.Rand) error {
	at := time.Since(s.begin)
	if s.from <= at && at < s.until {
		s.asked.Add(1)
	}
	if at >= 0 && s.reply != nil {
		switch s.reply(at, luck) {
		case refuses:
			return errRefused
		case hangs:
			<-ctx.Done()
			return ctx.Err()
		}
	}
	busy := time.Duration(luck.ExpFloat64() * float64(s.mean))
	if err := s.queue.Acquire(ctx, 1); err != nil {
		return err
	}
	if at := time.Since(s.begin); at >= 0 && s.work != nil {
		busy = s.work(at, busy)
	}
	free := time.Now().Add(busy)
	done := time.NewTimer(busy)
	select {
	case <-done.C:
		s.queue.Release(1)
		return nil
	case <-ctx.Done():
		done.Stop()
		time.AfterFunc(time.Until(free), func() { s.queue.Release(1) })
		return ctx.Err()
	}
}
