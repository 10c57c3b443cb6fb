package breaker

import (
	"context"
	"sync/atomic"
)

// A Permit admits one piece of work that cannot be wrapped in a function. Acquire
// returns it. Done of the zero value does nothing. A Permit is safe for concurrent use.
type Permit struct {
	b     *Breaker
	ctx   context.Context // of the work, for Done
	token uint64
	start int64
	done  atomic.Bool
}

// Done reports the result of the work. resilience.OutcomeOf decides its outcome, with
// the context given to Acquire. Use resilience.ErrAborted for work that panicked. Only
// the first call of Done counts.
func (p *Permit) Done(err error) {
	if p.b == nil || p.done.Swap(true) {
		return
	}
	token := p.token
	if p.b.slow {
		token |= p.b.slowness(p.start)
	}
	_ = p.b.judge(p.ctx, token, err, false)
}

// Cancel gives the permit back if there was no work. The breaker counts nothing, and a slot
// in HALF_OPEN is free again. After Done or Cancel it does nothing.
func (p *Permit) Cancel() {
	if p.b != nil && !p.done.Swap(true) {
		p.b.cancel(p.token)
	}
}
