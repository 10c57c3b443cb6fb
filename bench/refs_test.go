package bench_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"golang.org/x/sync/semaphore"
)

// atomicAdd adds to a word that no other core uses.
func atomicAdd() func(n int) {
	var word counter
	return func(n int) {
		for range n {
			word.Add(1)
		}
	}
}

func clockReads() func(n int) {
	base := time.Now()
	return func(n int) {
		var since time.Duration
		for range n {
			since += time.Since(base)
		}
		sink.Store(int64(since))
	}
}

func bareTimeouts() func(n int) {
	cause := errors.New("too late")
	return func(n int) {
		for range n {
			bareTimeout(context.Background(), cause)
		}
	}
}

func bareTimeout(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, cause)
	defer cancel()
	_ = operation.Run(ctx)
}

// allocate makes objects that no code uses, although the compiler cannot know that.
func allocate[T any]() func(n int) {
	last := new(atomic.Pointer[T])
	return func(n int) {
		var x *T
		for range n {
			x = new(T)
		}
		last.Store(x)
	}
}

// A guard is a policy as a program without this library would write it: it loads a
// state, runs the operation, and settles in a deferred call. All calls go through
// interfaces.
type guard struct {
	state   atomic.Uint64
	settler settler
	next    resilience.Operation
}

type settler interface{ Settle(err error) }

var errGuard = errors.New("rejected by the guard")

func (g *guard) Run(ctx context.Context) (err error) {
	if g.state.Load() != 0 {
		return errGuard
	}
	err = resilience.ErrAborted
	defer func() { g.settler.Settle(err) }()
	err = g.next.Run(ctx)
	return err
}

// tally counts results.
type tally struct{ successes, failures counter }

func (t *tally) Settle(err error) {
	if err != nil {
		t.failures.Add(1)
		return
	}
	t.successes.Add(1)
}

// release does what a guard does that has nothing to count.
type release struct{ failed bool }

func (r *release) Settle(err error) {
	if err != nil {
		r.failed = true
	}
}

// handWritten calls an operation inside three guards, one of which counts. In that
// way the share of the atomic add is the same as in the rows: an add is the
// instruction whose time differs most between processors.
func handWritten() func(n int) {
	var op resilience.Operation = &guard{settler: &tally{}, next: operation}
	for range 2 {
		op = &guard{settler: &release{}, next: op}
	}
	return func(n int) {
		var err error
		for range n {
			err = op.Run(context.Background())
		}
		if err != nil {
			panic(err)
		}
	}
}

// bareSemaphore acquires and releases a slot of a semaphore of x/sync.
func bareSemaphore() func(n int) {
	s := semaphore.NewWeighted(1 << 20)
	return func(n int) {
		for range n {
			if !s.TryAcquire(1) {
				panic("full")
			}
			s.Release(1)
		}
	}
}

// bareMap finds one of a hundred keys in a plain map.
func bareMap() func(n int) {
	m := map[string]*counter{}
	for i := range 99 {
		m[fmt.Sprintf("https://host-%d.example.com:443", i)] = new(counter)
	}
	key := "https://payments.example.com:443"
	m[key] = new(counter)
	return func(n int) {
		for range n {
			if m[key] == nil {
				panic("no such key")
			}
		}
	}
}

// bareClosure makes a func that captures variables, and a place for its value.
func bareClosure() func(n int) {
	return func(n int) {
		var sum int
		for i := range n {
			var v int
			op := resilience.Func(func(context.Context) error {
				v = i + n
				return nil
			})
			if err := runHidden(context.Background(), op); err != nil {
				panic(err)
			}
			sum += v
		}
		sink.Store(int64(sum))
	}
}

// runHidden is a variable so that the compiler does not know what it does with op.
var runHidden = func(ctx context.Context, op resilience.Operation) error { return op.Run(ctx) }
