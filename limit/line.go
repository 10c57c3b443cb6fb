package limit

// A waiter is a request in front of the handler.
type waiter struct {
	since      int64         // when it came
	ready      chan struct{} // closed when it is told what it is to do
	state      state         // guarded by the mutex of the Limit until ready is closed
	entered    int64         // if admitted, when
	prev, next *waiter       // prev has come before
}

type state uint8

const (
	waits state = iota
	admitted
	refused
)

// A line is those who wait, in the order in which they came.
type line struct {
	oldest, newest *waiter
	n              int
}

func (q *line) push(w *waiter) {
	w.prev = q.newest
	if q.newest != nil {
		q.newest.next = w
	} else {
		q.oldest = w
	}
	q.newest = w
	q.n++
}

func (q *line) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.oldest = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.newest = w.prev
	}
	w.prev, w.next = nil, nil
	q.n--
}

// next is the oldest or the newest.
func (q *line) next(newest bool) *waiter {
	if newest {
		return q.newest
	}
	return q.oldest
}

// take removes the oldest or the newest and tells it what it is to do.
func (q *line) take(newest bool, s state, entered int64) {
	w := q.next(newest)
	q.remove(w)
	w.state, w.entered = s, entered
	close(w.ready)
}
