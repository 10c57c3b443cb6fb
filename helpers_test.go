package resilience_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/resilience-go/resilience"
)

var errDown = errors.New("down")

// apply is a policy made from a func.
type apply func(ctx context.Context, next resilience.Next) error

func (f apply) Apply(ctx context.Context, next resilience.Next) error { return f(ctx, next) }

// journal records what policies and settlers do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// traced returns a policy that records its name.
func (j *journal) traced(name string) resilience.Policy {
	return apply(func(ctx context.Context, next resilience.Next) error {
		j.add(name)
		return next.Run(ctx)
	})
}

func (j *journal) op(context.Context) error {
	j.add("op")
	return nil
}

// heard is a Settler that records its calls.
type heard struct {
	mu     sync.Mutex
	errs   []error
	tokens []uint64
}

func (h *heard) Settle(token uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs, h.tokens = append(h.errs, err), append(h.tokens, token)
}

func (h *heard) all() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.errs)
}

// settler is a Settler that is a func.
type settler func(token uint64, err error)

func (f settler) Settle(token uint64, err error) { f(token, err) }

// lasting is an operation that goes on after Run.
type lasting struct {
	resilience.Tail
	run       uint32
	err       error // of Run
	discarded int
	key       string
}

func (l *lasting) Run(context.Context) error {
	l.run = l.Begin()
	return l.err
}

func (l *lasting) Discard() {
	l.discarded++
	l.End(l.run, l.err)
}

func (l *lasting) Key() string { return l.key }

// inside runs op under a policy made from f, which gets a Next.
func inside(ctx context.Context, op resilience.Operation, f func(next resilience.Next) error) error {
	return resilience.RunOperation(ctx, apply(func(_ context.Context, next resilience.Next) error { return f(next) }), op)
}
