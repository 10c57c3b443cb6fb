package limit

import (
	"cmp"
	"context"

	"github.com/resilience-go/resilience"
)

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

// take removes w and tells it what it is to do.
func (q *line) take(w *waiter, s state, entered int64) {
	q.remove(w)
	w.state, w.entered = s, entered
	close(w.ready)
}

// arrive is enter for a request that found no room. It tells nothing, which
// the next that leaves does: an observer that ended the goroutine would take its place along.
func (l *Limit) arrive(ctx context.Context, now int64) (entered int64, err error) {
	now = l.lock(now)
	if l.flight >= l.machine.level {
		l.watch()
	}
	if l.watched {
		l.machine.arrive(now, l.flight)
	}
	full := l.line.n >= l.maxQueue()
	if full {
		l.serve() // the end of a test may have made room
		full = l.line.n >= l.maxQueue()
	}
	switch {
	case l.cfg.Shadow:
		l.wouldRefuse()
		fallthrough
	case l.line.n == 0 && l.flight < l.machine.level:
		l.flight++
		l.release()
		return now &^ stood, nil
	case full:
		l.count.Add(queueFull)
		l.machine.lost = true
		l.release()
		return 0, l.rejection(&l.full, "queue is full")
	}
	w := &waiter{since: now, ready: make(chan struct{})}
	l.line.push(w)
	l.release()
	return l.wait(ctx, w)
}

// maxQueue is how many may wait.
func (l *Limit) maxQueue() int {
	if q := l.cfg.MaxQueue; q != 0 {
		return max(0, q)
	}
	return 10*l.machine.limit + 1000
}

// wait waits for what becomes of w. A place that comes when the caller has left is
// passed on.
func (l *Limit) wait(ctx context.Context, w *waiter) (entered int64, err error) {
	left := true // should ctx panic
	defer func() {
		if left {
			l.quit(ctx, w)
		}
	}()
	select {
	case <-w.ready:
		if ctx.Err() == nil || w.state == refused {
			left = false
		}
	case <-ctx.Done():
	}
	switch {
	case left:
		// The handler did not run, so not even a deadline is evidence about it.
		return 0, resilience.Ignore(cmp.Or(resilience.ContextError(ctx), context.Canceled))
	case w.state == refused:
		return 0, l.rejection(&l.late, "overload")
	default:
		return w.entered, nil
	}
}

// quit ends the wait of a caller who has left.
func (l *Limit) quit(ctx context.Context, w *waiter) {
	l.lock(l.clock.Nanos())
	switch w.state {
	case waits:
		l.line.remove(w)
	case admitted:
		l.flight--
	}
	if w.state != refused { // who was has been counted
		l.count.Add(canceled)
		l.machine.lost = true
	}
	l.unlock(ctx)
}

// serve refuses who has waited too long and admits whom there is room for.
func (l *Limit) serve() {
	m := &l.machine
	if m.overload {
		for patience := m.patience(); l.line.n > 0 && l.now-l.line.oldest.since > patience; {
			l.line.take(l.line.oldest, refused, 0)
			l.count.Add(shed)
			m.lost = true
		}
	}
	for l.line.n > 0 && l.flight < m.level {
		w, entered := l.line.next(m.newest), l.now&^stood
		if float64(entered-w.since) > m.stay() {
			entered |= stood
		}
		l.line.take(w, admitted, entered)
		l.flight++
	}
}
