package limit

import (
	"math"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit/internal/rank"
	"github.com/resilience-go/resilience/limit/internal/search"
)

// A gate decides which requests enter the handler, which are queued and which are rejected. It
// has no clock, lock or context: the same calls make the same decisions. Times are in
// nanoseconds.
type gate struct {
	*settings
	search   search.Search
	queue    rank.Queue[fate]
	inFlight int
	calm     int64 // when there was last no overload
	watched  bool
	looks    bool      // a call of tick is scheduled
	decided  []*waiter // requests that have left the queue, for the caller of the method
	rejected [priorities]uint64
}

// priorities is the number of priorities.
const priorities = int(resilience.Critical-resilience.Lowest) + 1

// A waiter is a queued request.
type waiter = rank.Request[fate]

// A fate is what becomes of a queued request.
type fate struct {
	ready    chan struct{} // closed when decision is set
	decision decision
	entered  int64 // when it was admitted
	deadline int64 // when its caller leaves, 0 if that is not known
}

type decision uint8

const (
	undecided decision = iota
	admitted
	overdue   // queued for too long in an overload
	hopeless  // its caller would leave before it is answered
	displaced // the queue is full
)

func newGate(s *settings) gate {
	return gate{settings: s, search: search.New(s.max, s.shadow)}
}

// update changes the settings while requests are in flight.
func (g *gate) update(s *settings) {
	g.settings = s
	g.search.Configure(s.max, s.shadow)
}

// level returns how many requests may be in the handler. Without a queue a limit would reject
// them while it is found, so only Max bounds them.
func (g *gate) level() int {
	if g.maxQueue < 0 {
		return g.max
	}
	return g.search.Level()
}

// queued returns how many requests are queued or, in shadow mode, would be.
func (g *gate) queued() int {
	if g.shadow {
		return max(0, g.inFlight-g.search.Level())
	}
	return g.queue.Len()
}

// capacity returns how many requests may be queued.
func (g *gate) capacity() int {
	if g.maxQueue != 0 {
		return max(0, g.maxQueue)
	}
	return 10*max(g.search.Level(), g.search.WatchFrom()) + 1000
}

// watch makes the search count arrivals and completions.
func (g *gate) watch(now int64) {
	if !g.watched {
		g.watched = true
		g.search.Watch(now, g.inFlight)
		g.queue.Skip()
	}
}

// arrive decides about a request: it enters, is queued as w, or is rejected because the queue
// is full.
func (g *gate) arrive(now int64, class rank.Class, deadline int64) (w *waiter, d decision) {
	if g.inFlight >= g.search.WatchFrom() {
		g.watch(now)
	}
	if g.watched {
		began := g.search.WindowStart()
		g.search.Arrive(now, g.inFlight, g.queued())
		g.measure(now, began, search.Window{})
	}
	ticket := g.queue.Arrive(now, class)
	if g.shadow {
		d = g.wouldReject()
		g.inFlight++
		return nil, d
	}
	g.serve(now) // the search may have opened
	if g.queue.Len() == 0 && g.inFlight < g.level() {
		g.inFlight++
		return nil, admitted
	}
	if g.queue.Len() >= g.capacity() {
		last := g.queue.Displaced(ticket, g.search.NewestFirst())
		if last == nil {
			g.turnAway(ticket)
			return nil, displaced
		}
		g.reject(last, displaced)
	}
	w = &waiter{Ticket: ticket, Since: now, Value: fate{deadline: deadline}}
	g.queue.Push(w)
	return w, undecided
}

// wouldReject is the decision about a request that shadow mode lets enter.
func (g *gate) wouldReject() decision {
	over, s := g.inFlight-g.search.Level(), &g.search
	switch {
	case over < 0:
		return admitted
	case over >= g.capacity():
		return displaced
	case s.Overload() && float64(over)*float64(s.ServiceTime()) > float64(s.Level())*float64(s.Patience()):
		return overdue
	default:
		return admitted
	}
}

// leave records that a request leaves the handler. It stands for weight requests, and for
// none if it is not a sample and the handler is not watched. While requests are rare, each of
// them is a sample and stands for itself.
func (g *gate) leave(now, entered int64, useful bool, weight int) {
	if g.search.Rare() {
		weight = 1
	}
	suspicious := false
	switch {
	case g.watched:
		began := g.search.WindowStart()
		g.measure(now, began, g.search.Leave(now, entered, useful, g.inFlight, g.queued()))
	case weight > 0:
		suspicious = g.search.Sample(now, max(0, now-entered), useful, weight, g.inFlight)
	}
	g.inFlight--
	if suspicious {
		g.watch(now)
	}
	g.serve(now)
}

// measure lets the queue compare the arrivals since began with the completions in the window
// that has ended. If another window has begun without that, its arrivals do not count, nor
// do those after a stall.
func (g *gate) measure(now, began int64, ended search.Window) {
	switch {
	case ended.Ended && !g.search.Stalled(now):
		g.queue.Measure(ended.Useful)
	case g.search.WindowStart() != began:
		g.queue.Skip()
	}
}

// forget records that a request has left the handler that is no evidence.
func (g *gate) forget(now, entered int64) {
	if g.watched {
		g.search.Forget(now, entered, g.inFlight, g.queued())
	}
	g.inFlight--
	g.serve(now)
}

// quit records that the caller of w has left while it was queued, or before it could enter.
func (g *gate) quit(now int64, w *waiter) {
	switch w.Value.decision {
	case undecided:
		g.queue.Remove(w)
		g.queue.Undo(w.Ticket)
		g.serve(now)
	case admitted:
		g.forget(now, w.Value.entered)
	}
}

// tick does what follows from time alone.
func (g *gate) tick(now int64) {
	if g.watched {
		began := g.search.WindowStart()
		g.search.Tick(now, g.inFlight, g.queued())
		g.measure(now, began, search.Window{})
	}
	g.serve(now)
}

// restart forgets all times, because the clock was set back.
func (g *gate) restart(now int64) {
	g.calm = now
	g.search.Restart(now, g.inFlight)
}

// serve rejects the requests that were queued for too long, and admits as many others as
// there are slots.
func (g *gate) serve(now int64) {
	s := &g.search
	stalled := s.Stalled(now)
	if !s.Overload() {
		g.calm = now
	} else {
		patience := s.Patience()
		// The requests before the edge wait longer: they will be served soon, unless the edge
		// is wrong. What a trial or a stall has held up is no sign of that.
		important := 8 * patience
		if stalled || now-g.calm <= important {
			important = math.MaxInt64
		}
		for w := range g.queue.Overdue(now, patience, important) {
			g.reject(w, overdue)
		}
	}
	for g.queue.Len() > 0 && g.inFlight < g.level() {
		w := g.queue.Next(s.NewestFirst())
		if d := w.Value.deadline; d != 0 && s.Overload() && !stalled && d-now < s.ServiceTime() {
			g.reject(w, hopeless)
			continue
		}
		g.inFlight++
		w.Value.entered = now
		g.decide(w, admitted)
	}
	if g.queued() == 0 && s.Quiet(g.inFlight) {
		g.watched = false
	}
}

func (g *gate) reject(w *waiter, d decision) {
	g.decide(w, d)
	g.turnAway(w.Ticket)
}

// turnAway counts a request that is rejected.
func (g *gate) turnAway(t rank.Ticket) {
	g.queue.Undo(t)
	g.rejected[t.Priority()-resilience.Lowest]++
}

func (g *gate) decide(w *waiter, d decision) {
	g.queue.Remove(w)
	w.Value.decision = d
	g.decided = append(g.decided, w)
}
