package breaker

import (
	"context"
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// A Permit is the leave to do one piece of work that cannot be wrapped in a
// function. It comes from Acquire; the zero value is no leave, and its Done does
// nothing. A Permit is safe for concurrent use.
type Permit struct {
	b     *Breaker
	ctx   context.Context // of the call, which Done judges by
	token uint64
	start int64
	done  atomic.Bool
}

// Acquire asks for leave to do work under ctx that the breaker guards. The error is
// that of Apply: a *resilience.Rejection that matches ErrOpen, or that of a ctx that
// is already done. The caller tells the result to Done; of a permit that is dropped
// nothing is learned, and in HALF_OPEN it holds its place until Config.ProbeTimeout.
func (b *Breaker) Acquire(ctx context.Context) (*Permit, error) {
	if ctx.Err() != nil {
		return nil, resilience.ContextError(ctx)
	}
	token, err := b.admit(ctx, b.episode.Load())
	if err != nil {
		return nil, err
	}
	p := &Permit{b: b, ctx: ctx, token: token}
	if b.slow {
		p.start = b.clock.Nanos()
	}
	return p, nil
}

// Done tells how the work ended, judged as resilience.OutcomeOf describes under the
// context given to Acquire; resilience.ErrAborted says that it panicked. Only the
// first call counts.
func (p *Permit) Done(err error) {
	if p.b == nil || p.done.Swap(true) {
		return
	}
	token := p.token
	if p.b.slow {
		token |= p.b.slowness(p.start)
	}
	p.b.judge(p.ctx, token, err, false)
}
