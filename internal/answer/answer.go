// Package answer has what the operations that answer while they still run have in
// common: they are resilience.Answering.
package answer

import (
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// Early keeps those who wait for an operation to answer. The zero value is ready.
// Await is called before the operation runs; Answer may come from any goroutine, and
// comes before Run has returned, so that no run after it finds a list that others read.
type Early struct {
	first waiter // most operations have one at most
	over  atomic.Bool
}

type waiter struct {
	s     resilience.Settler
	token uint64
	next  *waiter
}

// Await implements resilience.Answering.
func (e *Early) Await(s resilience.Settler, token uint64) bool {
	if e.over.Load() {
		return false
	}
	if e.first.s != nil {
		e.first.next = &waiter{s, token, e.first.next}
		return true
	}
	e.first = waiter{s: s, token: token}
	return true
}

// Answer settles those who wait with err, which is nil for an answer and else what
// the operation ended with. Only the first call counts, and one settler that panics
// does not keep the others from being settled.
func (e *Early) Answer(err error) {
	if e.over.Load() || e.over.Swap(true) || e.first.s == nil {
		return
	}
	e.first.settle(err)
}

func (w *waiter) settle(err error) {
	if w.next != nil {
		defer w.next.settle(err)
	}
	w.s.Settle(w.token, err)
}
