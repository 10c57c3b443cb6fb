package limit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

var errDown = errors.New("down")

func newLimit(t *testing.T, c limit.Config) *limit.Limit {
	t.Helper()
	l, err := limit.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func succeed(context.Context) error { return nil }

// service is so many workers, each of which takes so long for a request, give or take a
// half. Requests that come before then wait in the handler.
type service struct {
	workers chan struct{}
	takes   time.Duration
	chance  *rand.Rand // guarded by mu

	mu      sync.Mutex // guards what follows
	started []int      // which of the requests of a load, in order
	refused []time.Duration
	errs    map[error]int
	ok      int
	calls   sync.WaitGroup
}

func newService(workers int, takes time.Duration) *service {
	return &service{workers: make(chan struct{}, workers), takes: takes, chance: rand.New(rand.NewPCG(1, 1)), errs: map[error]int{}}
}

func (s *service) handle(ctx context.Context) error {
	select {
	case s.workers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	takes := s.takes/2 + time.Duration(s.chance.Int64N(int64(s.takes)))
	s.mu.Unlock()
	time.Sleep(takes)
	<-s.workers
	return nil
}

// call sends request number i, whose caller waits for no longer than patience.
func (s *service) call(l resilience.Policy, i int, patience time.Duration) {
	s.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		came := time.Now()
		err := resilience.Run(ctx, l, func(ctx context.Context) error {
			s.mu.Lock()
			s.started = append(s.started, i)
			s.mu.Unlock()
			return s.handle(ctx)
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case err == nil:
			s.ok++
		case errors.Is(err, limit.ErrLimited):
			s.refused = append(s.refused, time.Since(came))
			s.errs[limit.ErrLimited]++
		default:
			s.errs[context.Cause(ctx)]++
		}
	})
}

// load sends requests one each gap for so long, or until done says so.
func (s *service) load(l resilience.Policy, gap, long time.Duration, done func() bool) {
	for i, end := 0, time.Now().Add(long); time.Now().Before(end); i++ {
		s.call(l, i, 500*time.Millisecond)
		time.Sleep(gap)
		if done != nil && done() {
			return
		}
	}
}

// overwhelm sends half of the load that s is capable of for a second, and then more than twice
// as much until l is in overload.
func (s *service) overwhelm(t *testing.T, l *limit.Limit) {
	t.Helper()
	each := s.takes / time.Duration(cap(s.workers))
	s.load(l, 2*each, time.Second, nil)
	gap := each * 2 / 5
	s.load(l, gap, 20*time.Second, func() bool { return l.Stats().Overload })
	if !l.Stats().Overload {
		t.Fatalf("no overload after 20 s: %+v", l.Stats())
	}
}

// atRest checks that nothing is held, and that each of so many calls is in exactly one
// of the counters.
func atRest(t *testing.T, l *limit.Limit, calls int) {
	t.Helper()
	s := l.Stats()
	if s.InFlight != 0 || s.Queued != 0 || !l.Idle() {
		t.Errorf("%d in flight, %d waiting, idle: %v", s.InFlight, s.Queued, l.Idle())
	}
	if n := s.Useful + s.Abandoned + s.Shed + s.QueueFull + s.Canceled; n != uint64(calls) {
		t.Errorf("%d calls are counted as %d: %+v", calls, n, s)
	}
}
