package resilience

import (
	"slices"
	"sync/atomic"
)

// Tail makes an operation Lasting. An adapter embeds a Tail in its per-call struct
// and writes Run and Discard. The zero value has no run.
//
// A run goes from Begin over Answer to End. Run calls Begin, also for a run that ends
// before Run returns. Begin returns the number of the run. Calls that name another run
// do nothing: a body that is closed twice cannot end the next run. The first End wins.
//
// Begin, Hold and Held are called by the goroutine that runs the policies. Answer and
// End may be called by any goroutine at any time. Settlers run on the goroutine that
// called Answer or End, in the order in which they were added, and without any lock.
// If one panics, the others are settled all the same. A Settler must not call
// Next.Discard of the operation that it settles, which would wait for the Settler.
type Tail struct {
	number uint32                  // of the last run that began, 0 before the first
	first  tailRun                 // most operations run once
	later  atomic.Pointer[tailRun] // the last run, if it is not the first
}

// tailRun is one run. One goroutine adds holdings, and none is ever removed. A
// holding becomes visible to other goroutines when state counts it. Answer and End
// set their bits in the same word, so each sees how many holdings it has to settle,
// and a holding that comes too late sees the bit.
type tailRun struct {
	number uint32 // written before another goroutine can know the run
	state  atomic.Uint32
	err    error // of the end; written before failed is set, read after
	inline [inlineHoldings]holding
	more   atomic.Pointer[[]laterHolding]
	done   chan struct{} // closed when the settling is over; written before waiting is set, read after
}

// The bits of tailRun.state. The bits from atAnswer on say which of the inline
// holdings wait for the answer. The bits from oneHolding on are the number of
// holdings.
const (
	answered  uint32 = 1 << iota // Answer came before End
	ended                        // End has come
	failed                       // End came with err, otherwise with nil
	answering                    // Answer is settling
	ending                       // End is settling, or is about to set ended
	waiting                      // a goroutine waits for done
	atAnswer
	oneHolding = atAnswer << inlineHoldings
)

// inlineHoldings is how many holdings a run keeps without an allocation: as many as a
// whole default stack has.
const inlineHoldings = 6

type holding struct {
	s     Settler
	token uint64
}

type laterHolding struct {
	holding
	at Moment
}

// Begin starts a run and returns its number. If the run before it has not ended,
// Begin ends it with ErrAborted.
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

// find returns the run with that number. It returns nil for a later run that
// another run has replaced.
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

// Answer marks the run as answered, and settles with nil the settlers that wait for
// the answer. After an Answer or End of the same run it does nothing.
func (t *Tail) Answer(run uint32) {
	r := t.find(run)
	if r == nil {
		return
	}
	if state, ok := r.claimAnswer(); ok && state >= oneHolding {
		defer r.settled(answering)
		r.settle(state, 0, 1<<Answered, nil)
	}
}

// claimAnswer sets answered, and answering if there are holdings. It returns the
// state before and whether this call is the one that has set them.
func (r *tailRun) claimAnswer() (state uint32, ok bool) {
	for {
		state = r.state.Load()
		claimed := state | answered
		switch {
		case state&(answered|ended|ending) != 0:
			return 0, false
		case state >= oneHolding:
			claimed |= answering
		}
		if r.state.CompareAndSwap(state, claimed) {
			return state, true
		}
	}
}

// End ends the run with err, nil for success, and settles with err all settlers
// that still wait. A run that ends without an Answer answers with err. If another
// goroutine has ended the run, End returns at once and does not wait for the
// settlers: an adapter may call it from code that holds locks.
func (t *Tail) End(run uint32, err error) {
	if r := t.find(run); r != nil {
		r.end(err)
	}
}

func (r *tailRun) end(err error) {
	state, ok := r.claimEnd(err != nil)
	if !ok {
		return // a body is usually read to its end and then closed
	}
	if err != nil {
		r.err = err
		state = r.state.Or(ended | failed)
	} else if state < oneHolding {
		return
	}
	defer r.settled(ending)
	r.settleAll(state, err)
}

// claimEnd sets ended, or ending alone for an end with an error, so that no other
// End writes err. It sets ending as well if there are holdings. It returns the state
// before and whether this call is the one that has set them.
func (r *tailRun) claimEnd(fails bool) (state uint32, ok bool) {
	for {
		state = r.state.Load()
		claimed := state | ended
		switch {
		case state&(ended|ending) != 0:
			return 0, false
		case fails:
			claimed = state | ending
		case state >= oneHolding:
			claimed |= ending
		}
		if r.state.CompareAndSwap(state, claimed) {
			return state, true
		}
	}
}

// settleAll settles the holdings that wait for the end which came in state.
func (r *tailRun) settleAll(state uint32, err error) {
	switch n := state / oneHolding; {
	case n == 1 && state&answered == 0: // the most frequent case
		r.inline[0].s.Settle(r.inline[0].token, err)
	case state&answered == 0:
		r.settle(state, 0, 1<<Answered|1<<Ended, err)
	default:
		r.settle(state, 0, 1<<Ended, err)
	}
}

// settle settles the holdings from i on that state counts and that wait for one of
// the moments.
func (r *tailRun) settle(state, i uint32, moments uint8, err error) {
	n := state / oneHolding
	for i < n && moments&(1<<r.at(state, i)) == 0 {
		i++
	}
	if i == n {
		return
	}
	if i+1 < n {
		defer r.settle(state, i+1, moments, err) // also if the settler panics
	}
	h := r.holding(i)
	h.s.Settle(h.token, err)
}

// settled clears bit, answering or ending, when the settlers have returned or
// unwound.
func (r *tailRun) settled(bit uint32) {
	if state := r.state.And(^bit); state&waiting != 0 && state&(answering|ending) == bit {
		close(r.done)
	}
}

// wait returns when a run that has ended is settled, also by other goroutines. It
// does not wait for a run that goes on: its adapter has kept it.
func (r *tailRun) wait() {
	for {
		state := r.state.Load()
		if state&(ended|ending) == 0 || state&(answering|ending) == 0 {
			return
		}
		r.done = make(chan struct{})
		if r.state.CompareAndSwap(state, state|waiting) {
			<-r.done
			return
		}
	}
}

// wait is what Next.Discard calls when the adapter has discarded its last run.
func (t *Tail) wait() {
	if r := t.current(); r != nil {
		r.wait()
	}
}

// at returns the moment that holding i waits for.
func (r *tailRun) at(state, i uint32) Moment {
	switch {
	case i >= inlineHoldings:
		return (*r.more.Load())[i-inlineHoldings].at
	case state&(atAnswer<<i) != 0:
		return Answered
	default:
		return Ended
	}
}

func (r *tailRun) holding(i uint32) holding {
	if i < inlineHoldings {
		return r.inline[i]
	}
	return (*r.more.Load())[i-inlineHoldings].holding
}

// add adds a holding to those that state counts, and reports whether state was
// still the newest.
func (r *tailRun) add(state uint32, at Moment, h holding) bool {
	i := state / oneHolding
	if i >= inlineHoldings {
		r.addLater(i-inlineHoldings, laterHolding{h, at})
		return r.state.CompareAndSwap(state, state+oneHolding)
	}
	r.inline[i] = h
	if at == Answered {
		return r.state.CompareAndSwap(state, state+oneHolding|atAnswer<<i)
	}
	return r.state.CompareAndSwap(state, state+oneHolding)
}

func (r *tailRun) addLater(i uint32, h laterHolding) {
	var list []laterHolding
	if more := r.more.Load(); more != nil {
		list = slices.Clip((*more)[:i]) // other goroutines may be reading it
	}
	list = append(list, h)
	r.more.Store(&list)
}

// Hold implements Lasting. Before the first Begin it returns false.
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
			// The policy saw a success, but the operation has ended since.
			s.Settle(token, r.result(state))
			return true
		}
		if r.add(state, at, holding{s, token}) {
			return true
		}
	}
}

// result returns the error of a run that has ended in state.
func (r *tailRun) result(state uint32) error {
	if state&failed == 0 {
		return nil
	}
	return r.err
}

// Held reports whether a settler waits for a moment of the run that is yet to come.
// If none does, the adapter need not call Answer or End.
func (t *Tail) Held() bool {
	r := t.current()
	if r == nil {
		return false
	}
	state := r.state.Load()
	if state&(ended|ending) != 0 {
		return false
	}
	for i := range state / oneHolding {
		if state&answered == 0 || r.at(state, i) == Ended {
			return true
		}
	}
	return false
}
