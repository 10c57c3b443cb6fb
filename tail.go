package resilience

import (
	"slices"
	"sync/atomic"
)

// Tail makes the per-call struct of an adapter Lasting: embed it, and add the
// Discard that only the adapter can write. The zero value is an operation that
// is not going on.
//
// A run goes from Begin over Answer to End; call Begin for every run after the
// first one that had it, also for a run that ends at once. Begin gives the run a
// number, and calls that name another number do nothing: a body that is closed
// twice, or a stream that reports its end after it was discarded, cannot end the
// run that came after it. The first End wins.
//
// Begin, Hold and Held belong to whoever runs the operation, which policies do one
// run after another; Answer and End may come from any goroutine at any time. No lock
// is held while a Settler runs, and none at all. Settlers run on the goroutine that
// brought the moment about, in the order in which they were held; one that panics
// does not keep the others from being settled.
type Tail struct {
	number uint32                  // of the last run that began, 0 before the first; for whoever runs the operation
	first  tailRun                 // most operations run once
	later  atomic.Pointer[tailRun] // the last run, if it is not the first
}

// tailRun is one run. Its holdings are only ever added to, by the one goroutine that
// holds; to count one in is what shows it to the others. So whoever brings a moment
// about by a bit of state finds in the same word how many there are to settle, and
// who comes later sees the bit.
type tailRun struct {
	number uint32 // written before anybody else knows of the run

	// state has the bits below, and how many holdings there are above them. Hold adds
	// to the number, Answer and End set their bits; each by a compare-and-swap, and
	// who loses one looks again.
	state atomic.Uint32

	failure atomic.Pointer[error] // what the first End that had one had; it counts if failed is set
	inline  [6]holding            // enough for a whole default stack
	more    atomic.Pointer[[]holding]
}

const (
	answered = 1 << iota // came before the end: those who wait for it have heard nil
	ended
	failed // ended with failure, else with nil
	one    // holding
)

type holding struct {
	s     Settler
	token uint64
	at    Moment
}

// Begin starts a run and returns its number. A run that had not ended yet ends
// with ErrAborted.
func (t *Tail) Begin() (run uint32) {
	last := t.current()
	t.number++
	run = t.number
	if last == nil {
		t.first.number = run
		return run
	}
	t.later.Store(&tailRun{number: run})
	last.end(ErrAborted)
	return run
}

// current returns the last run that began, nil before the first.
func (t *Tail) current() *tailRun {
	switch t.number {
	case 0:
		return nil
	case 1:
		return &t.first
	default:
		return t.later.Load()
	}
}

// find returns the run with that number, nil if it was not the first and there has
// been another since.
func (t *Tail) find(run uint32) *tailRun {
	r := &t.first
	if run > 1 {
		r = t.later.Load()
	}
	if run == 0 || r == nil || r.number != run {
		return nil
	}
	return r
}

// Answer says that the run has answered, and settles those who hold for that
// with nil.
func (t *Tail) Answer(run uint32) {
	r := t.find(run)
	if r == nil {
		return
	}
	for {
		state := r.state.Load()
		if state&(answered|ended) != 0 {
			return
		}
		if r.state.CompareAndSwap(state, state|answered) {
			r.settle(0, state/one, 1<<Answered, nil)
			return
		}
	}
}

// End says that the run has ended with err, nil for success, and settles all
// who hold it. A run that ends without having answered answers with err.
func (t *Tail) End(run uint32, err error) {
	if r := t.find(run); r != nil {
		r.end(err)
	}
}

func (r *tailRun) end(err error) {
	var bits uint32 = ended
	if err != nil && r.state.Load()&ended == 0 {
		if !r.fail(err) {
			return // another End has failed it first
		}
		bits |= failed
	}
	for {
		state := r.state.Load()
		if state&ended != 0 {
			return // a body is usually read to its end and then closed
		}
		if r.state.CompareAndSwap(state, state|bits) {
			r.settleAll(state, err)
			return
		}
	}
}

// fail keeps err, and reports whether it is the first.
func (r *tailRun) fail(err error) bool { return r.failure.CompareAndSwap(nil, &err) }

// settleAll settles with err whom the end that came in state is for.
func (r *tailRun) settleAll(state uint32, err error) {
	switch n := state / one; {
	case n == 1 && state&answered == 0: // as most often
		r.inline[0].s.Settle(r.inline[0].token, err)
	case state&answered == 0:
		r.settle(0, n, 1<<Answered|1<<Ended, err)
	default:
		r.settle(0, n, 1<<Ended, err)
	}
}

// settle settles those of the holdings from i to n that are for one of the moments.
func (r *tailRun) settle(i, n uint32, moments uint8, err error) {
	for i < n && moments&(1<<r.holding(i).at) == 0 {
		i++
	}
	if i == n {
		return
	}
	if i+1 < n {
		defer r.settle(i+1, n, moments, err) // also if this one panics
	}
	h := r.holding(i)
	h.s.Settle(h.token, err)
}

func (r *tailRun) holding(i uint32) holding {
	if i < uint32(len(r.inline)) {
		return r.inline[i]
	}
	return (*r.more.Load())[i-uint32(len(r.inline))]
}

// add puts a holding where nobody looks yet.
func (r *tailRun) add(i uint32, h holding) {
	if i < uint32(len(r.inline)) {
		r.inline[i] = h
		return
	}
	var list []holding
	if more := r.more.Load(); more != nil {
		list = slices.Clip((*more)[:i-uint32(len(r.inline))]) // others may be reading it
	}
	list = append(list, h)
	r.more.Store(&list)
}

// Hold implements Lasting.
func (t *Tail) Hold(at Moment, s Settler, token uint64) bool {
	r := t.current()
	if r == nil {
		return false
	}
	for {
		state := r.state.Load()
		switch {
		case at == Answered && state&answered != 0:
			return false
		case state&ended != 0:
			// The policy saw a success, but the operation has come to its end since.
			s.Settle(token, r.result(state))
			return true
		}
		r.add(state/one, holding{s, token, at})
		if r.state.CompareAndSwap(state, state+one) {
			return true
		}
	}
}

// result returns what the run ended with in state.
func (r *tailRun) result(state uint32) error {
	if state&failed == 0 {
		return nil
	}
	return *r.failure.Load()
}

// Held reports whether anybody waits for the end of the run. An adapter need
// not watch for the end of one that nobody waits for.
func (t *Tail) Held() bool {
	r := t.current()
	if r == nil {
		return false
	}
	state := r.state.Load()
	if state&ended != 0 {
		return false
	}
	for i := range state / one {
		if r.holding(i).at == Ended || state&answered == 0 {
			return true
		}
	}
	return false
}
