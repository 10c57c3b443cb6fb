package resilience

import "sync/atomic"

// Early lets an operation answer while Run is still running, as the handler of a
// stream does. An adapter embeds an Early in its per-call struct. It calls Answer when
// the operation answers, and before Run returns or unwinds. It also calls Answer after
// RunOperation, because a policy may not have called Run. Only the first call counts.
// The zero value is ready to use.
//
// Early is a type of its own because a Tail is five times as large, and an operation
// that ends when Run returns needs one moment of one run.
type Early struct {
	first earlyWaiter // few operations have a second one
	over  atomic.Bool
}

type earlyWaiter struct {
	s     Settler
	token uint64
	next  *earlyWaiter
}

// Await takes s over, to be settled by Answer, and returns true. After an Answer it
// returns false and leaves s alone. Next.Await calls it, before Run.
func (e *Early) Await(s Settler, token uint64) bool {
	if e.over.Load() {
		return false
	}
	if e.first.s != nil {
		e.first.next = &earlyWaiter{s, token, e.first.next}
		return true
	}
	e.first = earlyWaiter{s: s, token: token}
	return true
}

// Answer settles the settlers that Await has taken: with nil if the operation has
// answered, and with its error if it ended without an answer. Any goroutine may call
// Answer. If a settler panics, the others are settled all the same.
func (e *Early) Answer(err error) {
	if e.over.Load() || e.over.Swap(true) || e.first.s == nil {
		return
	}
	e.first.settle(err)
}

func (w *earlyWaiter) settle(err error) {
	if w.next != nil {
		defer w.next.settle(err)
	}
	w.s.Settle(w.token, err)
}
