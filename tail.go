package resilience

import (
	"sync"
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
// A Tail is safe for concurrent use, but for Begin, which belongs to whoever runs
// the operation: one run begins after another. Its mutex is never held while a Settler runs.
// Settlers run on the goroutine that brought the moment about, in the order in
// which they were held; one that panics does not keep the others from being
// settled.
type Tail struct {
	// ended is the number of the last run that ended, written under mu.
	ended atomic.Uint32

	mu sync.Mutex // guards everything below
	// run is the number of the last run that began, 0 before the first. Only Begin
	// writes it, and the first time without mu: nobody else knows of a run yet.
	run uint32
	// answered is whether Answer came before the end: those who wait for
	// Answered then hear nil, whatever the end brings.
	answered bool
	err      error // what the run ended with
	holdings
}

type holding struct {
	s     Settler
	token uint64
	at    Moment
}

// holdings is a list whose first six, enough for a whole default stack, need no
// allocation.
type holdings struct {
	n     int
	first [6]holding
	more  []holding
}

func (h *holdings) add(x holding) {
	if h.n < len(h.first) {
		h.first[h.n] = x
	} else {
		h.more = append(h.more, x)
	}
	h.n++
}

// moveTo empties h into l, which is empty. It touches only what is there, since
// most calls have no more than one or two.
func (h *holdings) moveTo(l *holdings) {
	first := h.first[:min(h.n, len(h.first))]
	copy(l.first[:], first)
	clear(first)
	l.n, l.more = h.n, h.more
	h.n, h.more = 0, nil
}

// settle settles all that wait for at; with Ended, all there are.
func (h *holdings) settle(at Moment, err error) {
	settle(h.first[:min(h.n, len(h.first))], h.more, at, err)
}

func settle(hs, more []holding, at Moment, err error) {
	if len(hs) == 0 {
		hs, more = more, nil
	}
	if len(hs) == 0 {
		return
	}
	if len(hs)+len(more) > 1 {
		defer settle(hs[1:], more, at, err) // also if this one panics
	}
	if h := hs[0]; h.at <= at {
		h.s.Settle(h.token, err)
	}
}

// Begin starts a run and returns its number. A run that had not ended yet ends
// with ErrAborted.
func (t *Tail) Begin() (run uint32) {
	run = t.run + 1
	if run == 1 {
		t.run = run
		return run
	}
	t.mu.Lock()
	t.run, t.answered, t.err = run, false, nil
	t.settleAll(ErrAborted)
	return run
}

// over reports whether that run has ended, or is not the last one. It needs mu.
func (t *Tail) over(run uint32) bool { return t.run != run || t.ended.Load() == run }

// Answer says that the run has answered, and settles those who hold for that
// with nil.
func (t *Tail) Answer(run uint32) {
	var now holdings
	t.mu.Lock()
	if t.over(run) || t.answered {
		t.mu.Unlock()
		return
	}
	t.answered = true
	t.moveTo(&now)
	for _, h := range now.first[:min(now.n, len(now.first))] {
		t.keep(h)
	}
	for _, h := range now.more {
		t.keep(h)
	}
	t.mu.Unlock()
	now.settle(Answered, nil)
}

func (t *Tail) keep(h holding) {
	if h.at == Ended {
		t.add(h)
	}
}

// End says that the run has ended with err, nil for success, and settles all
// who hold it. A run that ends without having answered answers with err.
func (t *Tail) End(run uint32, err error) {
	if t.ended.Load() == run {
		return // a body is usually read to its end and then closed
	}
	t.mu.Lock()
	if t.over(run) {
		t.mu.Unlock()
		return
	}
	t.ended.Store(run)
	t.err = err
	t.settleAll(err)
}

// settleAll unlocks mu and settles all who hold.
func (t *Tail) settleAll(err error) {
	switch t.n {
	case 0:
		t.mu.Unlock()
	case 1:
		h := t.first[0]
		t.first[0], t.n = holding{}, 0
		t.mu.Unlock()
		h.s.Settle(h.token, err)
	default:
		t.settleMany(err)
	}
}

// settleMany stands apart because its list is large.
func (t *Tail) settleMany(err error) {
	var now holdings
	t.moveTo(&now)
	t.mu.Unlock()
	now.settle(Ended, err)
}

// Hold implements Lasting.
func (t *Tail) Hold(at Moment, s Settler, token uint64) bool {
	t.mu.Lock()
	switch {
	case t.run == 0, at == Answered && t.answered:
		t.mu.Unlock()
		return false
	case t.over(t.run):
		// The policy saw a success, but the operation has come to its end since.
		err := t.err
		t.mu.Unlock()
		s.Settle(token, err)
		return true
	default:
		t.add(holding{s, token, at})
		t.mu.Unlock()
		return true
	}
}

// Held reports whether anybody waits for the end of the run. An adapter need
// not watch for the end of one that nobody waits for.
func (t *Tail) Held() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n > 0
}
