package bench_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// A row is a benchmark. What setup returns makes n calls and may run on several
// goroutines. The loop is in there, and not around a function of one call, so
// that nothing but the call is in it, be it of a reference or of a policy.
type row struct {
	name  string
	setup func(tb testing.TB) func(n int)
}

// rows are all that is measured: the references, the rows that demands are on, and
// those that these are compared with.
var rows = []row{
	{"Ref/atomic_add", func(testing.TB) func(int) { return atomicAdd() }},
	{"Ref/clock", func(testing.TB) func(int) { return clockReads() }},
	{"Ref/context_with_timeout", func(testing.TB) func(int) { return bareTimeouts() }},
	{"Ref/call", func(testing.TB) func(int) { return handWritten() }},
	{"Ref/semaphore", func(testing.TB) func(int) { return bareSemaphore() }},
	{"Ref/map", func(testing.TB) func(int) { return bareMap() }},
	{"Ref/closure", func(testing.TB) func(int) { return bareClosure() }},
	{"Ref/alloc_client", func(testing.TB) func(int) { return allocate[clientCall]() }},
	{"Ref/alloc_server", func(testing.TB) func(int) { return allocate[serverCall]() }},
	{"Ref/alloc_grpc", func(testing.TB) func(int) { return allocate[grpcCall]() }},

	{"Layer/plain/1", func(testing.TB) func(int) { return guarded(layers(1, plain{}), nil) }},
	{"Layer/plain/5", func(testing.TB) func(int) { return guarded(layers(5, plain{}), nil) }},
	{"Layer/settle/1", func(testing.TB) func(int) { return guarded(layers(1, &settling{}), nil) }},
	{"Layer/settle/5", func(testing.TB) func(int) { return guarded(layers(5, &settling{}), nil) }},
	{"Breaker/default/closed", func(testing.TB) func(int) { return guarded(newBreaker(), nil) }},
	{"Breaker/consecutive/closed", tripping(breaker.Consecutive{Failures: 5})},
	{"Breaker/last100/closed", tripping(breaker.Rate{Failures: 50, Of: 100})},
	{"Breaker/window/closed", tripping(breaker.Rate{Failures: 50, Of: 100, Over: 10 * time.Second})},
	{"Breaker/slow/closed", tripping(breaker.Slow{LongerThan: time.Second, Calls: 50, Of: 100, Over: 10 * time.Second})},
	{"Breaker/default/open", open},
	{"Bulkhead/free", func(testing.TB) func(int) { return guarded(newBulkhead(), nil) }},
	{"Limit/free", func(testing.TB) func(int) { return guarded(newLimit(), nil) }},
	{"Limit/rejected", func(testing.TB) func(int) { return rejected(unranked{}) }},
	{"Limit/rejected/ranked", func(testing.TB) func(int) { return rejected(ranked{}) }},
	{"Retry/first_try", func(testing.TB) func(int) { return guarded(newRetry(), nil) }},
	{"Fallback/unused", func(testing.TB) func(int) { return guarded(newFallback(), nil) }},
	{"Timeout/whole", func(testing.TB) func(int) {
		return guarded(resilience.Must(timeout.New(timeout.Config{})), nil)
	}},
	{"Stack/retry_breaker_bulkhead_fallback", func(testing.TB) func(int) { return guarded(newStack(), nil) }},
	{"Stack/retry_breaker_bulkhead_fallback/do", do},
	{"Histogram/plain", func(testing.TB) func(int) {
		return guarded(resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{})), nil)
	}},
	{"HTTP/client/bare", func(testing.TB) func(int) { return client(nil, body{}) }},
	{"HTTP/client/retry_breaker_bulkhead", func(testing.TB) func(int) {
		return client(resilience.Compose(newRetry(), newBreaker(), newBulkhead()), body{})
	}},
	{"HTTP/client/bare/no_body", func(testing.TB) func(int) { return client(nil, nil) }},
	{"HTTP/client/retry_breaker_bulkhead/no_body", func(testing.TB) func(int) {
		return client(resilience.Compose(newRetry(), newBreaker(), newBulkhead()), nil)
	}},
	{"HTTP/client/retry_breaker_bulkhead/keyed", func(testing.TB) func(int) {
		template := resilience.Compose(newRetry(), newBreaker(), newBulkhead())
		return client(resilience.Must(keyed.New(template, keyed.Config{})), body{})
	}},
	{"HTTP/server/bare", func(testing.TB) func(int) { return server(nil) }},
	{"HTTP/server/breaker", func(testing.TB) func(int) { return server(newBreaker()) }},
	{"HTTP/server/refused", func(testing.TB) func(int) { return refusal() }},
	{"GRPC/unary_client/bare", func(testing.TB) func(int) { return unaryClient(nil) }},
	{"GRPC/unary_client/breaker", func(testing.TB) func(int) { return unaryClient(newBreaker()) }},
	{"GRPC/unary_server/bare", func(testing.TB) func(int) { return unaryServer(nil) }},
	{"GRPC/unary_server/breaker", func(testing.TB) func(int) { return unaryServer(newBreaker()) }},
	{"GRPC/unary_server/refused", refused},
	{"GRPC/stream_client/bare", func(testing.TB) func(int) { return streamClient(nil) }},
	{"GRPC/stream_client/breaker", func(testing.TB) func(int) { return streamClient(newBreaker()) }},
	{"Keyed/pin", func(testing.TB) func(int) { return forKey(&pinning{p: resilience.Compose()}) }},
	{"Keyed/lookup", func(testing.TB) func(int) { return forKey(hundredKeys(resilience.Compose())) }},
	{"Keyed/breaker", func(testing.TB) func(int) { return forKey(hundredKeys(newBreaker())) }},
	{"Endpoint/pick/1", picks(1)},
	{"Endpoint/pick/3", picks(3)},
	{"Endpoint/pick/20", picks(20)},
	{"Growth/keys/1", keys(1)},
	{"Growth/keys/100", keys(100)},
	{"Growth/keys/10000", keys(10_000)},
	{"Growth/keys/100000", keys(100_000)},
	{"Growth/policies/1", breakers(1)},
	{"Growth/policies/2", breakers(2)},
	{"Growth/policies/4", breakers(4)},
	{"Growth/policies/8", breakers(8)},
}

// sink keeps the compiler from leaving out what has no other use.
var sink atomic.Int64

// counter is an atomic word that shares its cache line with nothing.
type counter struct {
	_ [64]byte
	atomic.Uint64
	_ [64]byte
}

// noop is the operation of all rows except HTTP and Keyed.
func noop(context.Context) error { return nil }

// operation is noop where the compiler cannot see it, as a policy does.
var operation resilience.Operation = resilience.Func(noop)

// guarded runs noop under p and expects it to return want.
func guarded(p resilience.Policy, want error) func(n int) {
	return func(n int) {
		var err error
		for range n {
			err = resilience.Run(context.Background(), p, noop)
		}
		if !errors.Is(err, want) {
			panic(err)
		}
	}
}

// rejected makes calls of a limit whose only slot is taken, and which queues none.
func rejected(op resilience.Operation) func(n int) {
	l := resilience.Must(limit.New(limit.Config{Max: 1, MaxQueue: limit.NoQueue}))
	return func(n int) {
		_ = resilience.Run(context.Background(), l, func(ctx context.Context) error {
			for range n {
				if err := resilience.RunOperation(ctx, l, op); !errors.Is(err, limit.ErrLimited) {
					panic(err)
				}
			}
			return nil
		})
	}
}

// unranked is an operation that a limit does not tell apart from others.
type unranked struct{}

func (unranked) Run(context.Context) error { return nil }

// ranked is an operation with a priority and a caller.
type ranked struct{ unranked }

func (ranked) Priority() resilience.Priority { return resilience.Low }
func (ranked) Caller() string                { return "tenant-0123456789" }

func layers(n int, p resilience.Policy) resilience.Policy {
	var all []resilience.Policy
	for range n {
		all = append(all, p)
	}
	return resilience.Compose(all...)
}

// plain is the least that a policy can do.
type plain struct{}

func (plain) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// settling is the least that a policy can do that holds something.
type settling struct{}

func (s *settling) Apply(ctx context.Context, next resilience.Next) (err error) {
	err = resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, s, 0) }()
	err = next.Run(ctx)
	return err
}

func (s *settling) Settle(uint64, error) {}

func newBreaker() *breaker.Breaker { return resilience.Must(breaker.New(breaker.Config{})) }

// tripping is a closed breaker with that rule.
func tripping(rule breaker.Rule) func(testing.TB) func(int) {
	return func(testing.TB) func(int) {
		return guarded(resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{rule}, OpenFor: time.Minute})), nil)
	}
}

func newLimit() *limit.Limit { return resilience.Must(limit.New(limit.Config{})) }

func newBulkhead() *bulkhead.Bulkhead { return resilience.Must(bulkhead.New(bulkhead.Config{})) }
func newRetry() *retry.Retry          { return resilience.Must(retry.New(retry.Config{})) }

func newFallback() *fallback.Fallback {
	return resilience.Must(fallback.New(fallback.Config{
		Handle: func(context.Context, error) error { return nil },
	}))
}

func newStack() resilience.Policy {
	return resilience.Compose(newFallback(), newRetry(), newBreaker(), newBulkhead())
}

// open is a breaker that is open for as long as the benchmark takes. It is the
// default one otherwise: how it came to be open does not matter to a rejection.
func open(tb testing.TB) func(n int) {
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour}))
	if err := resilience.Run(tb.Context(), b, func(context.Context) error { return errors.ErrUnsupported }); err == nil {
		tb.Fatal("the breaker did not see the failure")
	}
	return guarded(b, breaker.ErrOpen)
}

// do runs a func that captures variables and has a value.
func do(testing.TB) func(n int) {
	p := newStack()
	return func(n int) {
		var sum int
		for i := range n {
			v, err := resilience.Do(context.Background(), p, func(context.Context) (int, error) { return i + n, nil })
			if err != nil {
				panic(err)
			}
			sum += v
		}
		sink.Store(int64(sum))
	}
}

// keyOperation is a noop with a key.
type keyOperation string

func (k *keyOperation) Run(context.Context) error { return nil }
func (k *keyOperation) Key() string               { return string(*k) }

func newGroup(template resilience.Policy, max int) *keyed.Group {
	return resilience.Must(keyed.New(template, keyed.Config{Max: max}))
}

// hundredKeys is a group that has seen other keys before.
func hundredKeys(template resilience.Policy) *keyed.Group {
	g := newGroup(template, 0)
	for i := range 99 {
		key := keyOperation(fmt.Sprintf("https://host-%d.example.com:443", i))
		_ = resilience.RunOperation(context.Background(), g, &key)
	}
	return g
}

// keys calls n keys in turn, each with a breaker of its own.
func keys(n int) func(testing.TB) func(int) {
	return func(testing.TB) func(int) {
		g := newGroup(newBreaker(), n)
		ops := make([]keyOperation, n)
		for i := range ops {
			ops[i] = keyOperation(fmt.Sprintf("https://host-%d.example.com:443", i))
			_ = resilience.RunOperation(context.Background(), g, &ops[i])
		}
		return func(calls int) {
			for i := range calls {
				if err := resilience.RunOperation(context.Background(), g, &ops[i%n]); err != nil {
					panic(err)
				}
			}
		}
	}
}

// picks chooses one of n endpoints, all of which work.
func picks(n int) func(testing.TB) func(int) {
	return func(testing.TB) func(int) {
		set := resilience.Must(endpoint.New(endpoint.Config{}))
		addresses := make([]string, n)
		for i := range addresses {
			addresses[i] = fmt.Sprintf("10.0.0.%d:443", i)
		}
		set.Update(addresses, nil)
		return func(n int) {
			for range n {
				p, ok := set.Pick(nil)
				if !ok {
					panic("no endpoint")
				}
				p.Answered(endpoint.Success, nil)
				p.End()
			}
		}
	}
}

// breakers are n of them, one inside the other.
func breakers(n int) func(testing.TB) func(int) {
	return func(testing.TB) func(int) {
		var all []resilience.Policy
		for range n {
			all = append(all, newBreaker())
		}
		return guarded(resilience.Compose(all...), nil)
	}
}

// pinning does what a group does, except for finding the policy of the key.
type pinning struct {
	p    resilience.Policy
	pins atomic.Int64
}

func (p *pinning) Apply(ctx context.Context, next resilience.Next) error {
	if next.Key() == "" {
		panic("no key")
	}
	p.pins.Add(1)
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, (*unpinning)(p), 0) }()
	err = p.p.Apply(ctx, next)
	return err
}

type unpinning pinning

func (p *unpinning) Settle(uint64, error) { p.pins.Add(-1) }

// forKey runs an operation whose key has the form of an HTTP client's keys.
func forKey(p resilience.Policy) func(n int) {
	key := keyOperation("https://payments.example.com:443")
	var op resilience.Operation = &key
	return func(n int) {
		for range n {
			if err := resilience.RunOperation(context.Background(), p, op); err != nil {
				panic(err)
			}
		}
	}
}
