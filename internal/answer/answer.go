// Package answer has what the operations that answer while they still run have in
// common: they are resilience.Answering.
package answer

import (
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// Early keeps those who wait for an operation to answer. The zero value is ready.
// Await is called before the operation runs; Answer may come from any goroutine.
type Early struct {
	first waiter // most operations have one at most
	more  []waiter
	over  atomic.Bool
}

type waiter struct {
	s     resilience.Settler
	token uint64
}

// Await implements resilience.Answering.
func (e *Early) Await(s resilience.Settler, token uint64) {
	if e.first.s == nil {
		e.first = waiter{s, token}
		return
	}
	e.more = append(e.more, waiter{s, token})
}

// Answer settles those who wait with err, which is nil for an answer and else what
// the operation ended with. Only the first call counts, and one that settler panics
// does not keep the others from being settled.
func (e *Early) Answer(err error) {
	if e.first.s == nil || e.over.Swap(true) {
		return
	}
	if len(e.more) > 0 {
		defer settle(e.more, err)
	}
	e.first.s.Settle(e.first.token, err)
}

func settle(waiters []waiter, err error) {
	if len(waiters) > 1 {
		defer settle(waiters[1:], err)
	}
	waiters[0].s.Settle(waiters[0].token, err)
}
