package limit

// The kinds of events.
const (
	// EventOverloaded: an overload began. From now on, requests that have been queued for
	// too long are rejected.
	EventOverloaded = "overload began"
	// EventOverloadEnded: the overload ended.
	EventOverloadEnded = "overload ended"
)

// states are the values of From and To in events, and of State in reports.
var states = map[bool]string{false: "NORMAL", true: "OVERLOAD"}

// An eventQueue holds the changes of state that the observer has not been called with. One
// goroutine at a time delivers them, in order. Limit.mu guards the queue.
type eventQueue struct {
	changes  []change
	overload bool // the last state
	busy     bool // a goroutine delivers
}

// A change is the begin or the end of an overload.
type change struct {
	overload bool
	at       int64
}

// set records the state and reports whether it has changed. It queues the change if keep is
// true.
func (q *eventQueue) set(overload bool, now int64, keep bool) (changed bool) {
	if q.overload == overload {
		return false
	}
	q.overload = overload
	if keep {
		q.changes = append(q.changes, change{overload, now})
	}
	return true
}

// claim reports whether the caller must deliver the queue: it has changes, and no other
// goroutine delivers them.
func (q *eventQueue) claim() bool {
	if len(q.changes) == 0 || q.busy {
		return false
	}
	q.busy = true
	return true
}

// next removes the oldest change. If there is none, the delivery has ended.
func (q *eventQueue) next() (c change, more bool) {
	if len(q.changes) == 0 {
		q.busy, q.changes = false, nil
		return c, false
	}
	c, q.changes = q.changes[0], q.changes[1:]
	return c, true
}
