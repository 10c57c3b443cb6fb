package resiliencetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
)

// apply is resilience.PolicyFunc.
type apply = resilience.PolicyFunc

func always(f apply) func() resilience.Policy { return func() resilience.Policy { return f } }

// slots are what the policies here hold.
type slots struct {
	used     atomic.Int64
	capacity int64
}

func (s *slots) take() error {
	if s.used.Add(1) > s.capacity {
		s.used.Add(-1)
		return &resilience.Rejection{Policy: "slots", Reason: "full"}
	}
	return nil
}

func (s *slots) Settle(uint64, error) { s.used.Add(-1) }

// bulkhead keeps the contract.
type bulkhead struct{ slots }

func newBulkhead() resilience.Policy { return &bulkhead{slots{capacity: 1}} }

func (b *bulkhead) Apply(ctx context.Context, next resilience.Next) error {
	if err := b.take(); err != nil {
		return err
	}
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, &b.slots, 0) }()
	err = next.Run(ctx)
	return err
}

// retry keeps the contract.
func retry(ctx context.Context, next resilience.Next) error {
	err := next.Run(ctx)
	for range 2 {
		if err == nil || rejected(err) {
			break
		}
		next.Discard()
		select {
		case <-ctx.Done():
			return errors.Join(resilience.ContextError(ctx), err)
		case <-time.After(time.Second):
		}
		again := next.Run(ctx)
		if rejected(again) {
			break
		}
		err = again
	}
	return err
}

// breaker keeps the contract: three failures in a row open it for a second.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time
	forgets  func(error) bool // breaks the contract, unless nil
}

func newBreaker() resilience.Policy { return &breaker{} }

func (b *breaker) Apply(ctx context.Context, next resilience.Next) error {
	b.mu.Lock()
	open := b.failures >= 3 && time.Now().Before(b.until)
	b.mu.Unlock()
	if open {
		return &resilience.Rejection{Policy: "breaker", Reason: resilience.Open}
	}
	err := resilience.ErrAborted
	defer func() {
		if resilience.OutcomeOf(ctx, err, nil) != resilience.Ignored {
			next.Settle(resilience.Answered, err, b, 0)
		}
	}()
	err = next.Run(ctx)
	return err
}

func (b *breaker) Settle(_ uint64, err error) {
	if b.forgets != nil && b.forgets(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	b.failures++
	b.until = time.Now().Add(time.Second)
}

func fallback(ctx context.Context, next resilience.Next) error {
	if err := next.Run(ctx); err != nil && !rejected(err) {
		next.Discard()
	}
	return nil
}

func timeout(ctx context.Context, next resilience.Next) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, release(cancel), 0) }()
	err = next.Run(ctx)
	return err
}

type release func()

func (r release) Settle(uint64, error) { r() }

// TestPolicy accepts policies that keep the contract.
func TestPolicy_accepts(t *testing.T) {
	sound := map[string]func() resilience.Policy{
		"trivial":  always(func(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }),
		"empty":    func() resilience.Policy { return resilience.Compose() },
		"bulkhead": newBulkhead,
		"retry":    always(retry),
		"breaker":  newBreaker,
		"fallback": always(fallback),
		"timeout":  always(timeout),
	}
	for name, p := range sound {
		t.Run(name, func(t *testing.T) { TestPolicy(t, p) })
		t.Run("retry("+name+")", func(t *testing.T) {
			TestPolicy(t, func() resilience.Policy { return resilience.Compose(apply(retry), p()) })
		})
		t.Run(name+"(bulkhead)", func(t *testing.T) {
			TestPolicy(t, func() resilience.Policy { return resilience.Compose(p(), newBulkhead()) })
		})
	}
}

// Each broken policy is caught by the named rules, and by no other rule.
func TestPolicy_catches(t *testing.T) {
	for name, b := range brokenPolicies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught := map[string]bool{}
			for _, r := range rules {
				if b.hangs && !slices.Contains(b.caught, r.name) {
					continue
				}
				for _, lasting := range []bool{false, true} {
					if faults := r.broken(t, b.policy, lasting, b.patience()); len(faults) > 0 {
						caught[r.name] = true
						t.Logf("%s/%s: %s: %q", r.name, kind(lasting), r.sentence, faults)
					}
				}
			}
			got := slices.Sorted(maps.Keys(caught))
			if want := slices.Sorted(slices.Values(b.caught)); !slices.Equal(got, want) {
				t.Errorf("caught by %v, want %v", got, want)
			}
		})
	}
}

// Each rule is the only one that catches some broken policy.
func TestPolicy_rules(t *testing.T) {
	alone := map[string]bool{}
	for _, b := range brokenPolicies() {
		if len(b.caught) == 1 {
			alone[b.caught[0]] = true
		}
	}
	for _, r := range rules {
		if !alone[r.name] {
			t.Errorf("no broken policy needs the rule %q", r.name)
		}
	}
}
