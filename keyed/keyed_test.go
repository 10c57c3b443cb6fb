package keyed_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
)

var errBoom = errors.New("boom")

func must(t testing.TB, template resilience.Policy, c keyed.Config) *keyed.Group {
	t.Helper()
	g, err := keyed.New(template, c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// opensAtOnce returns a breaker that opens at the first failure, for an hour of the mock.
func opensAtOnce(mock *clock.Mock) *breaker.Breaker {
	return resilience.Must(breaker.New(breaker.Config{
		Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour, Clock: mock,
	}))
}

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errBoom }

func run(t testing.TB, p resilience.Policy, fn resilience.Func) error {
	return resilience.Run(t.Context(), p, fn)
}

// call is an operation with a key. It may be lasting.
type call struct {
	resilience.Tail
	key  string
	last bool // it ends only when the test calls End
	fn   resilience.Func
	run  uint32
}

func (c *call) Key() string { return c.key }
func (c *call) Discard()    { c.End(c.run, context.Canceled) }

func (c *call) Run(ctx context.Context) error {
	if c.last {
		c.run = c.Begin()
		c.Answer(c.run)
	}
	return c.fn(ctx)
}

// remembered returns the policy of a key that the group remembers, or nil.
func remembered(g *keyed.Group, key string) resilience.Policy {
	for k, p := range g.All() {
		if k == key {
			return p
		}
	}
	return nil
}

// flood makes one successful call for each of many keys.
func flood(t testing.TB, g *keyed.Group, keys int) {
	t.Helper()
	for i := range keys {
		if err := run(t, g.For(fmt.Sprint("flood ", i)), succeed); err != nil {
			t.Fatal(err)
		}
	}
}

// A Group never remembers more than Max keys that it may drop.
func TestGroup_boundedByMax(t *testing.T) {
	for name, fn := range map[string]resilience.Func{"healthy": succeed, "failing": fail} {
		t.Run(name, func(t *testing.T) {
			b := resilience.Must(breaker.New(breaker.Config{}))
			g := must(t, b, keyed.Config{Max: 100})
			for i := range 10_000 {
				_ = run(t, g.For(fmt.Sprint(i)), fn)
				if n := g.Stats().Keys; n > 100 {
					t.Fatalf("%d keys after %d", n, i+1)
				}
			}
			s := g.Stats()
			if n := len(slices.Collect(keys(g))); n != s.Keys || s.Evicted != uint64(10_000-n) {
				t.Errorf("%d keys are there, counted %+v", n, s)
			}
		})
	}
}

func keys(g *keyed.Group) iter.Seq[string] { return maps.Keys(maps.Collect(g.All())) }

// A key that fails opens only its own breaker.
func TestGroup_opensOneKey(t *testing.T) {
	g := must(t, opensAtOnce(clock.NewMock()), keyed.Config{})
	_ = run(t, g.For("down"), fail)
	if err := run(t, g.For("down"), succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("down: %v", err)
	}
	if err := run(t, g.For("up"), succeed); err != nil {
		t.Errorf("up: %v", err)
	}
	if err := run(t, g, succeed); err != nil {
		t.Errorf("no key: %v", err)
	}
}

// Group.Apply uses the operation's key, and Group.For uses its own.
func TestGroup_keyOfOperation(t *testing.T) {
	g := must(t, opensAtOnce(clock.NewMock()), keyed.Config{})
	_ = resilience.RunOperation(t.Context(), g, &call{key: "down", fn: fail})
	if err := run(t, g.For("down"), succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("error %v", err)
	}
	if err := resilience.RunOperation(t.Context(), g.For("up"), &call{key: "down", fn: succeed}); err != nil {
		t.Errorf("error %v", err)
	}
}

// A Group does not drop an open breaker before its time is over.
func TestGroup_keepsOpenBreaker(t *testing.T) {
	mock := clock.NewMock()
	g := must(t, opensAtOnce(mock), keyed.Config{Max: 10})
	down := g.For("down")
	_ = run(t, down, fail)
	flood(t, g, 1000)
	if err := run(t, down, succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("error %v, though the breaker had opened", err)
	}
	mock.Add(time.Hour)
	flood(t, g, 1000)
	if remembered(g, "down") != nil {
		t.Error("still remembered after its time is over, without calls")
	}
}

// A Group remembers more than Max keys while their breakers are open.
func TestGroup_maxIsSoft(t *testing.T) {
	mock := clock.NewMock()
	g := must(t, opensAtOnce(mock), keyed.Config{Max: 10})
	for i := range 500 {
		_ = run(t, g.For(fmt.Sprint(i)), fail)
	}
	for i := range 500 {
		if err := run(t, g.For(fmt.Sprint(i)), succeed); !errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("key %d: %v", i, err)
		}
	}
	mock.Add(time.Hour)
	flood(t, g, 1000)
	if n := g.Stats().Keys; n > 10 {
		t.Errorf("%d keys long after the breakers closed", n)
	}
}

// A Group does not drop a key that has a call in flight.
func TestGroup_keepsKeyInFlight(t *testing.T) {
	g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{Max: 2})
	err := run(t, g.For("slow"), func(context.Context) error {
		before := remembered(g, "slow")
		flood(t, g, 100)
		if p := remembered(g, "slow"); p == nil || p != before {
			t.Error("evicted during the call")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	flood(t, g, 100)
	if remembered(g, "slow") != nil {
		t.Error("still there after it")
	}
}

// A Group does not drop the key of a lasting operation before the operation has ended.
func TestGroup_keepsKeyUntilEnded(t *testing.T) {
	g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{Max: 2})
	c := &call{key: "slow", last: true, fn: succeed}
	if err := resilience.RunOperation(t.Context(), g, c); err != nil {
		t.Fatal(err)
	}
	before := remembered(g, "slow")
	flood(t, g, 100)
	if p := remembered(g, "slow"); p == nil || p != before {
		t.Fatal("evicted before its end")
	}
	c.End(c.run, nil)
	flood(t, g, 100)
	if remembered(g, "slow") != nil {
		t.Error("still there after its end")
	}
}

// A Group drops keys that are not used before keys that are.
func TestGroup_keepsUsedKey(t *testing.T) {
	g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{Max: 64})
	_ = run(t, g.For("popular"), succeed)
	first := remembered(g, "popular")
	for i := range 10_000 {
		_ = run(t, g.For("popular"), succeed)
		_ = run(t, g.For(fmt.Sprint(i)), succeed)
	}
	if remembered(g, "popular") != first {
		t.Error("a key with every second call was evicted")
	}
}

// A key is not dropped by the sweep that its own insertion starts.
func TestGroup_insertionKeepsItsKey(t *testing.T) {
	g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{Max: 1})
	for i := range 100 {
		key := fmt.Sprint(i)
		err := run(t, g.For(key), func(context.Context) error {
			if remembered(g, key) == nil {
				t.Fatalf("key %s is gone during its own call", key)
			}
			return nil
		})
		if n := g.Stats().Keys; err != nil || n > 1 {
			t.Fatalf("%d keys, error %v", n, err)
		}
	}
}

// The counters of the template include keys that the Group has dropped.
func TestGroup_countersSurviveEviction(t *testing.T) {
	r := resilience.Must(retry.New(retry.Config{BaseDelay: -1, MaxAttempts: 2}))
	b := resilience.Must(bulkhead.New(bulkhead.Config{}))
	g := must(t, resilience.Compose(r, b), keyed.Config{Max: 10})
	for i := range 3000 {
		_ = run(t, g.For(fmt.Sprint(i)), []resilience.Func{succeed, fail}[i%2])
	}
	if s := r.Stats(); s.FirstTry != 1500 || s.Stopped[retry.OutOfAttempts] != 1500 {
		t.Errorf("retry counted %+v", s)
	}
	if s := b.Stats(); s.Completed != 4500 || s.InFlight != 0 {
		t.Errorf("bulkhead counted %+v", s)
	}
}

// The result of For works after its key has been dropped.
func TestGroupFor_survivesEviction(t *testing.T) {
	mock := clock.NewMock()
	g := must(t, opensAtOnce(mock), keyed.Config{Max: 4})
	p := g.For("users")
	_ = run(t, p, succeed)
	for range 5 {
		flood(t, g, 100)
		if remembered(g, "users") != nil {
			t.Fatal("not evicted")
		}
		if err := run(t, p, succeed); err != nil || remembered(g, "users") == nil {
			t.Fatalf("error %v", err)
		}
	}
	_ = run(t, p, fail)
	if err := run(t, g.For("users"), succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("another For of the key does not share its state: %v", err)
	}
}

// Each key has its own state.
func TestGroup_stateOfEachKey(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	g := must(t, b, keyed.Config{})
	err := run(t, g.For("a"), func(context.Context) error {
		if err := run(t, g.For("a"), succeed); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("the same key: %v", err)
		}
		return run(t, g.For("b"), succeed)
	})
	if err != nil {
		t.Errorf("another key: %v", err)
	}
}

// A key of Config.Keys has its own policy and is not counted in Stats.
func TestConfigKeys_ownPolicy(t *testing.T) {
	template := opensAtOnce(clock.NewMock())
	own := resilience.Must(breaker.New(breaker.Config{Name: "own", Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}, OpenFor: time.Hour}))
	exceptions := map[string]resilience.Policy{"special": own, "free": resilience.Compose()}
	g := must(t, template, keyed.Config{Max: 1, Keys: exceptions})
	delete(exceptions, "special") // the map is copied
	for range 5 {
		_ = run(t, g.For("free"), fail)
	}
	if err := run(t, g.For("free"), succeed); err != nil {
		t.Errorf("free: %v", err)
	}
	_ = resilience.RunOperation(t.Context(), g, &call{key: "special", fn: fail})
	if err := run(t, g.For("special"), fail); err != errBoom {
		t.Errorf("special, one failure: %v", err)
	}
	if err := run(t, g.For("special"), succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("special, two failures: %v", err)
	}
	flood(t, g, 100)
	if n := g.Stats().Keys; n != 1 || remembered(g, "special") != nil {
		t.Errorf("%d keys", n)
	}
}

// walked returns the policies in p, except the forks.
func walked(p resilience.Policy) (found []resilience.Policy) {
	for n := range resilience.Walk(p) {
		if n.Key == "" || n.Key == "a" || n.Key == "b" {
			found = append(found, n.Policy)
		}
	}
	return found
}

// resilience.Walk finds the template and then the policies of Config.Keys in order.
func TestGroup_walkOrder(t *testing.T) {
	template := opensAtOnce(clock.NewMock())
	a, b := resilience.Must(retry.New(retry.Config{Name: "a"})), resilience.Must(retry.New(retry.Config{Name: "b"}))
	g := must(t, template, keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"b": b, "a": a}})
	flood(t, g, 10)
	want := []resilience.Policy{g, template, a, b}
	if got := walked(g); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if got := walked(g.For("x")); !slices.Equal(got[1:], want) {
		t.Errorf("found %v behind For, want %v", got, want)
	}
	if g.Name() != "hosts" {
		t.Errorf("name %q", g.Name())
	}
}

// A call that ends in a panic or in Goexit unpins its key.
func TestGroup_panicUnpins(t *testing.T) {
	for _, goexit := range []bool{false, true} {
		g := must(t, resilience.Must(retry.New(retry.Config{})), keyed.Config{Max: 1})
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			_ = resilience.Run(context.Background(), g.For("bad"), func(context.Context) error {
				if goexit {
					runtime.Goexit()
				}
				panic(errBoom)
			})
		}()
		if v := <-done; !goexit && v != any(errBoom) || goexit && v != nil {
			t.Errorf("panicked with %v", v)
		}
		flood(t, g, 10)
		if remembered(g, "bad") != nil {
			t.Error("still pinned")
		}
	}
}

// A Group drops the keys of a burst soon after the burst has ended.
func TestGroup_dropsBurst(t *testing.T) {
	g := must(t, resilience.Must(breaker.New(breaker.Config{})), keyed.Config{Max: 100})
	leave := make(chan struct{})
	var in, all sync.WaitGroup
	for i := range 2000 {
		in.Add(1)
		all.Go(func() {
			_ = run(t, g.For(fmt.Sprint("busy ", i)), func(context.Context) error { in.Done(); <-leave; return nil })
		})
	}
	in.Wait()
	close(leave)
	all.Wait()
	flood(t, g, 2000/8+50) // an eighth, until it looks again
	if n := g.Stats().Keys; n > 100 {
		t.Errorf("%d keys", n)
	}
}
