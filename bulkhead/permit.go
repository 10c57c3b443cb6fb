package bulkhead

import (
	"context"
	"sync/atomic"
)

// Permit is a slot for work that cannot be wrapped in a function: work that begins
// in one callback and ends in another, or on another goroutine. It comes from
// Acquire; the zero value holds nothing.
//
// A Permit holds its slot until Release, however long that takes and whatever
// becomes of the context it was acquired with. One that is never released holds
// its slot for ever: there is no lease, since only its owner can know that the
// work is over.
//
// A Permit is safe for concurrent use. Do not copy it.
type Permit struct {
	held atomic.Pointer[Bulkhead] // nil once released
	n    int64                    // how many had been admitted then
}

// Acquire takes a slot, waiting for it as Apply does, and with the same errors: a
// *resilience.Rejection that matches ErrFull, or the error of ctx if that ends
// first. With an error there is no Permit, it is nil. A ctx that is already done
// gets none and is not counted.
//
// A Permit counts everywhere as a call of Apply does. It costs one allocation.
func (b *Bulkhead) Acquire(ctx context.Context) (*Permit, error) {
	n, err := b.acquire(ctx)
	if err != nil {
		return nil, err
	}
	p := &Permit{n: n}
	p.held.Store(b)
	return p, nil
}

// Release gives the slot back. However often and from wherever it is called, it
// does so once, with the err of the first call.
//
// The err is how the work ended. A bulkhead that sizes itself must know: work
// that went well makes room for more of it, while err != nil counts as 0, or a
// dependency that hangs would raise its own limit. With a Config.Slots it has no
// effect. As a deferred call evaluates its arguments at once, defer a closure,
// with an error that is there until the work has gone well:
//
//	err = resilience.ErrAborted // what counts if the work panics
//	defer func() { permit.Release(err) }()
//	err = work()
func (p *Permit) Release(err error) {
	if b := p.held.Swap(nil); b != nil {
		b.release(p.n, err)
	}
}
