package breaker

import (
	"context"
	"sync/atomic"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// The kinds of events of a breaker, by the state that a transition leads to.
const (
	EventOpened     = "breaker opened"
	EventHalfOpened = "breaker half-open"
	EventClosed     = "breaker closed"
)

// kinds are the kinds of events, by the state that a transition leads to.
var kinds = [...]string{Closed: EventClosed, Open: EventOpened, HalfOpen: EventHalfOpened}

// The causes of transitions other than the rules of Config.Trip: values of
// Transition.Rule, TransitionCount.Rule and the Reason of an event.
const (
	// CauseOpenTimeOver leads from OPEN to HALF_OPEN, with the first call after the
	// open time.
	CauseOpenTimeOver = "open time is over"
	// CauseEnoughSuccesses leads from HALF_OPEN to CLOSED.
	CauseEnoughSuccesses = "enough successes"
	// CauseProbeFailed leads from HALF_OPEN to OPEN, when failures have used up the
	// credit. If a rule of Config.Trip opens HALF_OPEN, the rule is the cause.
	CauseProbeFailed = "probe failed"
	// CauseSetMode is a call of SetMode that has changed the state.
	CauseSetMode = "SetMode"
	// CauseReset is a call of Reset that has changed the state.
	CauseReset = "Reset"
)

// A note is an event that the observer has not been called with yet.
type note struct {
	ctx   context.Context
	event resilience.Event
}

// An announcer calls the observer with the transitions of one breaker, one after
// another and the oldest first.
type announcer struct {
	// announced is the last episode that was announced. Only the goroutine that took
	// pending from 0 to 1 uses it. It is nil without an observer.
	announced *episode
	pending   atomic.Int64 // transitions made and not yet announced
}

// announce announces the transition that the caller has made. The goroutine that takes
// pending from 0 to 1 announces all that are pending. Transitions that other goroutines
// or the observer make before it is done are added to its list.
func (a *announcer) announce(o resilience.Observer) {
	if o == nil || a.pending.Add(1) > 1 {
		return
	}
	a.announceAll(o)
}

func (a *announcer) announceAll(o resilience.Observer) {
	for a.announceOne(o) {
	}
}

func (a *announcer) announceOne(o resilience.Observer) (more bool) {
	a.announced = a.announced.next.Load()
	n := a.announced.note
	a.announced.note = nil // so that the context of a call is not kept
	returned := false
	defer func() {
		more = a.pending.Add(-1) > 0
		if !returned && more {
			a.announceAll(o) // the observer called runtime.Goexit, which ends the loop
		}
	}()
	if n != nil {
		policykit.Observe(n.ctx, o, n.event)
	}
	returned = true
	return more
}

// link makes e reachable from the episode before it. The goroutine that installs an
// episode links it. A goroutine that installs the one after e links e first, since the
// other may not have done so yet. So the chain from the last announced episode has no
// gap.
func (e *episode) link() {
	if p := e.prev.Load(); p != nil {
		p.next.Store(e)
		e.prev.Store(nil)
	}
}
