package bulkhead

import (
	"context"
	"sync/atomic"
)

// Permit is a slot for work that cannot be wrapped in a function: work that begins in one
// callback and ends in another, or on another goroutine. Acquire returns it. The zero
// Permit holds no slot.
//
// A Permit holds its slot until Release is called, even if the context of Acquire ends. A
// Permit that is never released holds its slot forever. There is no lease, because only
// the owner of the Permit knows when the work is over.
//
// A Permit is safe for concurrent use. Do not copy it.
type Permit struct {
	held atomic.Pointer[Bulkhead] // nil once released
	ctx  context.Context          // of Acquire, for the outcome of the work
	ticket
}

// Release releases the slot. Only the first call of Release has an effect.
//
// err is how the work ended. A bulkhead that sizes itself needs it. resilience.OutcomeOf
// decides what err means, with the context of Acquire: a success makes the bulkhead grow. A
// failure counts as 0, so that a dependency that hangs cannot raise its own bound. A timeout
// counts as a success does, unless most calls time out. With Config.Slots set, err has no effect.
//
// A deferred call evaluates its arguments at once, so defer a closure. Preset the error,
// so that a panic counts as a failure:
//
//	err = resilience.ErrAborted // what counts if the work panics
//	defer func() { permit.Release(err) }()
//	err = work()
func (p *Permit) Release(err error) {
	if b := p.held.Swap(nil); b != nil {
		b.release(p.ctx, p.ticket, err)
	}
}

// Cancel releases the slot of a permit for which there was no work. The bulkhead counts it
// as a call that ended, but does not size itself by it. After Release it has no effect.
func (p *Permit) Cancel() {
	if b := p.held.Swap(nil); b != nil {
		b.end(1)
	}
}
