package keyed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
)

// forker is a template whose forks call the functions of the test.
type forker struct {
	idle func() bool
	fork func()
}

func (f *forker) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

func (f *forker) Fork(string) resilience.Policy {
	if f.fork != nil {
		f.fork()
	}
	return &forker{idle: f.idle}
}

func (f *forker) Idle() bool { return f.idle() }

// The key of a call is there during the call, while other goroutines evict.
func TestGroup_concurrentEviction(t *testing.T) {
	r := resilience.Must(retry.New(retry.Config{}))
	g := must(t, r, keyed.Config{Max: 8})
	var all sync.WaitGroup
	var wrong atomic.Int64
	for i := range 64 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for range 500 {
				key := fmt.Sprint(random.IntN(100))
				_ = resilience.Run(context.Background(), g.For(key), func(context.Context) error {
					if remembered(g, key) == nil {
						wrong.Add(1)
					}
					return nil
				})
			}
		})
	}
	all.Wait()
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d calls whose key was gone", n)
	}
	if s := r.Stats(); s.FirstTry != 64*500 {
		t.Errorf("counted %d calls of %d", s.FirstTry, 64*500)
	}
	there := 0
	for range g.All() {
		there++
	}
	if s := g.Stats(); s.Keys != there {
		t.Errorf("counted %d keys, %d are there", s.Keys, there)
	}
	flood(t, g, 200)
	if n := g.Stats().Keys; n > 8 {
		t.Errorf("%d keys without calls", n)
	}
}

// An open breaker is not lost while other goroutines evict.
func TestGroup_concurrentOpenBreakers(t *testing.T) {
	g := must(t, opensAtOnce(clock.NewMock()), keyed.Config{Max: 4})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 100 {
				key := g.For(fmt.Sprint(i, "/", n))
				if n%10 != 0 {
					_ = resilience.Run(context.Background(), key, succeed)
					continue
				}
				_ = resilience.Run(context.Background(), key, fail)
				for range 3 {
					if err := resilience.Run(context.Background(), key, succeed); !errors.Is(err, breaker.ErrOpen) {
						t.Errorf("error %v of a breaker that had opened", err)
					}
				}
			}
		})
	}
	all.Wait()
}

// A call runs once under the old policy if the eviction that it meets is given up.
func TestGroup_evictionGivenUp(t *testing.T) {
	// evict keeps an entry that is not idle when it is marked as dead. Calls that wait then
	// get the entry.
	var asked atomic.Int64
	meet := make(chan struct{})
	met := sync.OnceFunc(func() { close(meet) })
	g := must(t, &forker{idle: func() bool {
		if asked.Add(1) == 2 { // the entry is marked as dead
			met()
			for range 1000 {
				runtime.Gosched() // lets the other goroutine find it so; the result does not depend on it
			}
		}
		return asked.Load() == 1
	}}, keyed.Config{Max: 1})
	_ = run(t, g.For("a"), succeed)
	first := remembered(g, "a")
	ran := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-meet
		_ = resilience.Run(context.Background(), g.For("a"), func(context.Context) error { ran++; return nil })
	}()
	_ = run(t, g.For("b"), succeed)
	met() // if Idle was not called twice, the test fails below
	<-done
	if asked.Load() < 2 || ran != 1 || remembered(g, "a") != first {
		t.Errorf("ran %d times, asked %d times", ran, asked.Load())
	}
}

// A call runs under a new policy if it meets an eviction.
func TestGroup_evictionDone(t *testing.T) {
	var asked atomic.Int64
	meet, evicted, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g := must(t, &forker{idle: func() bool {
		if asked.Add(1) == 2 { // the entry is marked as dead, and will be dropped
			close(meet)
			for range 1000 {
				runtime.Gosched() // lets the other goroutine find it so; the result does not depend on it
			}
		}
		return true
	}}, keyed.Config{Max: 1})
	_ = run(t, g.For("a"), succeed)
	first := remembered(g, "a")
	go func() {
		defer close(done)
		<-meet
		_ = resilience.Run(context.Background(), g.For("a"), func(context.Context) error {
			<-evicted
			if p := remembered(g, "a"); p == nil || p == first {
				t.Errorf("runs under a policy that was dropped: %v is remembered", p)
			}
			return nil
		})
	}()
	_ = run(t, g.For("b"), succeed)
	close(evicted)
	<-done
}

// A panic in the method Idle of a policy blocks no other call.
func TestGroup_panicInIdle(t *testing.T) {
	for at := int64(1); at <= 2; at++ { // before the entry is marked as dead, and after
		t.Run(fmt.Sprint("time ", at), func(t *testing.T) {
			var asked atomic.Int64
			g := must(t, &forker{idle: func() bool {
				if asked.Add(1) == at {
					panic(errBoom)
				}
				return true
			}}, keyed.Config{Max: 1})
			_ = run(t, g.For("a"), succeed)
			func() {
				defer func() {
					if v := recover(); v != any(errBoom) {
						t.Errorf("panicked with %v", v)
					}
				}()
				_ = run(t, g.For("b"), succeed)
			}()
			for _, key := range []string{"a", "b", "c"} {
				if err := run(t, g.For(key), succeed); err != nil {
					t.Error(err)
				}
			}
			flood(t, g, 10)
			if n := g.Stats().Keys; n > 1 {
				t.Errorf("%d keys: one is pinned forever", n)
			}
		})
	}
}

// A panic in the method Fork of a template blocks no other call.
func TestGroup_panicInFork(t *testing.T) {
	panics := true
	f := &forker{idle: func() bool { return true }}
	f.fork = func() {
		if panics {
			panic(errBoom)
		}
	}
	g := must(t, f, keyed.Config{})
	func() {
		defer func() { _ = recover() }()
		_ = run(t, g.For("a"), succeed)
	}()
	panics = false
	if err := run(t, g.For("a"), succeed); err != nil || g.Stats().Keys != 1 {
		t.Errorf("error %v, %d keys", err, g.Stats().Keys)
	}
}

// A method Idle that uses the Group does not deadlock.
func TestGroup_idleUsesGroup(t *testing.T) {
	var g *keyed.Group
	depth := 0
	f := &forker{idle: func() bool {
		if depth++; depth < 5 {
			_ = resilience.Run(context.Background(), g.For(fmt.Sprint("inner ", depth)), succeed)
		}
		return true
	}}
	g = must(t, f, keyed.Config{Max: 1})
	flood(t, g, 20)
}

// A call whose key is remembered allocates nothing.
func TestGroup_allocations(t *testing.T) {
	g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{})
	p, ctx, op := g.For("a"), context.Background(), resilience.Func(succeed)
	if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, p, op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
