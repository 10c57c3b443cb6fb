package rank

import (
	"iter"
	"math/bits"

	"github.com/resilience-go/resilience"
)

// A Request is a request in a Queue. Value is the limit's own.
type Request[T any] struct {
	Ticket
	Since        int64 // when the request was queued, in nanoseconds
	Value        T
	older, newer *Request[T] // in its list
}

// A list is the queued requests of one rank, in the order in which they came.
type list[T any] struct{ oldest, newest *Request[T] }

func (l *list[T]) push(r *Request[T]) {
	r.older, r.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = r
	} else {
		l.oldest = r
	}
	l.newest = r
}

func (l *list[T]) remove(r *Request[T]) {
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		l.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		l.newest = r.older
	}
	r.older, r.newer = nil, nil
}

// end returns the newest or the oldest request, nil if there is none.
func (l *list[T]) end(newest bool) *Request[T] {
	if newest {
		return l.newest
	}
	return l.oldest
}

// overdue yields the requests at the old end that have been queued for longer than patience.
// It reports whether yield wants more.
func (l *list[T]) overdue(now, patience int64, yield func(*Request[T]) bool) bool {
	for r := l.oldest; r != nil && now-r.Since > patience; {
		newer := r.newer // yield may remove r
		if !yield(r) {
			return false
		}
		r = newer
	}
	return true
}

// A Queue is the requests that wait for a slot, by rank. The zero value is empty and ready to
// use. A Queue is not safe for concurrent use.
type Queue[T any] struct {
	length int
	same   list[T]   // all requests while none differs from the others
	table  *table[T] // nil until a request differs
}

// table is the part of a Queue that requests of several ranks need.
type table[T any] struct {
	lists    [ranks]list[T]
	occupied [ranks / 64]uint64 // a bit for each list that is not empty
	demand   demand
	callers  sketch
}

// occupy updates the bit of a list.
func (t *table[T]) occupy(rank uint8) {
	bit := uint64(1) << (rank % 64)
	if t.lists[rank].oldest != nil {
		t.occupied[rank/64] |= bit
	} else {
		t.occupied[rank/64] &^= bit
	}
}

// first returns the most important occupied rank from rank on, ranks if there is none.
func (t *table[T]) first(rank int) int {
	for ; rank < ranks; rank = (rank/64 + 1) * 64 {
		if rest := t.occupied[rank/64] >> (rank % 64); rest != 0 {
			return rank + bits.TrailingZeros64(rest)
		}
	}
	return ranks
}

// last returns the least important occupied rank, -1 if there is none.
func (t *table[T]) last() int {
	for i := len(t.occupied) - 1; i >= 0; i-- {
		if t.occupied[i] != 0 {
			return 64*i + bits.Len64(t.occupied[i]) - 1
		}
	}
	return -1
}

// Len returns the number of queued requests.
func (q *Queue[T]) Len() int { return q.length }

// Arrive counts a request that has arrived at now, in nanoseconds, and returns its ticket. It
// counts the request as one that its caller gets, until Undo takes that back.
func (q *Queue[T]) Arrive(now int64, c Class) Ticket {
	if q.table == nil {
		if c == (Class{level: normal / shares}) {
			return Ticket{rank: normal}
		}
		q.differ()
	}
	t := q.table
	share, ticket := 1.0, Ticket{cells: c.cells}
	if c.named && t.callers.counters == nil {
		t.callers.counters = new([rows][columns]float64)
	}
	if t.callers.counters != nil {
		share, ticket.weight = t.callers.count(now, c.cells)
		ticket.era = t.callers.era
	}
	ticket.rank = rankOf(c.level, share)
	t.demand.window[ticket.rank]++
	return ticket
}

// differ allocates the table. The edge is unknown until the first Measure, so no rank is
// from the edge on.
func (q *Queue[T]) differ() {
	q.table = &table[T]{demand: demand{edge: ranks}}
	q.table.lists[normal], q.same = q.same, list[T]{}
	q.table.occupy(normal)
}

// Undo takes back what Arrive has counted for the caller of t: it got nothing.
func (q *Queue[T]) Undo(t Ticket) {
	if t.weight > 0 {
		q.table.callers.undo(t.cells, t.era, t.weight)
	}
}

// Push queues r, whose Ticket is from Arrive.
func (q *Queue[T]) Push(r *Request[T]) {
	q.length++
	if q.table == nil {
		q.same.push(r)
		return
	}
	q.table.lists[r.rank].push(r)
	q.table.occupy(r.rank)
}

// Remove takes r, which is queued, out of the queue.
func (q *Queue[T]) Remove(r *Request[T]) {
	q.length--
	if q.table == nil {
		q.same.remove(r)
		return
	}
	q.table.lists[r.rank].remove(r)
	q.table.occupy(r.rank)
}

// Next returns the request to serve next, nil if the queue is empty: the oldest one of the
// most important rank. With newestFirst, it is the newest one if that rank is from the edge
// on.
func (q *Queue[T]) Next(newestFirst bool) *Request[T] {
	t := q.table
	if t == nil {
		return q.same.end(newestFirst)
	}
	r := t.first(0)
	if r == ranks {
		return nil
	}
	return t.lists[r].end(newestFirst && r >= t.demand.edge)
}

// Displaced returns the queued request that a request with ticket t displaces from a full
// queue, nil if no queued request is of a less important rank. It is the request that Next
// would return last.
func (q *Queue[T]) Displaced(t Ticket, newestFirst bool) *Request[T] {
	if q.table == nil {
		return nil
	}
	last := q.table.last()
	if last <= int(t.rank) {
		return nil
	}
	return q.table.lists[last].end(!newestFirst || last < q.table.demand.edge)
}

// Overdue yields the requests that have been queued for longer than patience, if their rank
// is from the edge on, or longer than patienceBeforeEdge otherwise, the most important ones
// first. Times are in nanoseconds. The body of the loop may remove the request that it gets.
func (q *Queue[T]) Overdue(now, patience, patienceBeforeEdge int64) iter.Seq[*Request[T]] {
	return func(yield func(*Request[T]) bool) {
		t := q.table
		if t == nil {
			q.same.overdue(now, patience, yield)
			return
		}
		for r := t.first(0); r < ranks; r = t.first(r + 1) {
			most := patience
			if r < t.demand.edge {
				most = patienceBeforeEdge
			}
			if !t.lists[r].overdue(now, most, yield) {
				return
			}
		}
	}
}

// Measure ends a window in which completed requests were completed, and finds the edge. If
// the limit was lowered for a trial, completed is what would have been completed without.
func (q *Queue[T]) Measure(completed float64) {
	if q.table != nil {
		q.table.demand.measure(completed)
	}
}

// Skip ends a window that is no evidence of the capacity, such as one with a pause. The edge
// stays.
func (q *Queue[T]) Skip() {
	if q.table != nil {
		clear(q.table.demand.window[:])
	}
}

// Edge returns the highest priority of which requests are rejected in an overload. If
// arrivals exceed completions in no rank, ok is false.
func (q *Queue[T]) Edge() (p resilience.Priority, ok bool) {
	switch {
	case q.table == nil:
		return resilience.Normal, true
	case q.table.demand.edge == ranks:
		return 0, false
	default:
		return priorityOf(q.table.demand.edge), true
	}
}
