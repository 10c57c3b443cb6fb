package search

import "math"

// A window counts what happens in the handler from one completion to another. The completion
// that it begins with is not part of it.
type window struct {
	start                         int64
	arrivals, completions, useful int
	bound                         int     // completions with requests in the queue
	took                          float64 // time in the handler, of all completions
}

// mean is how long a request was in the handler.
func (w *window) mean() float64 { return w.took / float64(max(1, w.completions)) }

// throughput is in useful completions per nanosecond.
func (w *window) throughput(now int64) float64 { return float64(w.useful) / w.length(now) }

// inFlight is how many requests were in the handler, by Little's law.
func (w *window) inFlight(now int64) float64 { return w.took / w.length(now) }

func (w *window) length(now int64) float64 { return float64(max(1, now-w.start)) }

// full reports whether the window has enough completions and is as long as its own requests
// were in the handler. Without a useful one, it must also last for idleTime: what a pause has
// left is not what the handler does.
func (w *window) full(now, least int64) bool {
	long := now - w.start
	return w.enough(now) && long >= least && float64(long) >= w.mean() && (w.useful > 0 || long >= idleTime)
}

// enough reports whether the window has enough completions: windowCalls or, if that takes
// over a second, their square root.
func (w *window) enough(now int64) bool {
	return w.completions >= windowCalls || now-w.start >= idleTime && w.completions*w.completions >= windowCalls
}

// binds reports whether the limit was reached for nearly all of the window.
func (w *window) binds() bool { return 8*w.bound >= 7*w.completions }

// grew reports whether more requests arrived than were useful, by so many standard errors.
func (w *window) grew(errors float64) bool {
	return float64(w.arrivals-w.useful) > errors*math.Sqrt(float64(w.arrivals))
}

// uneven reports whether another number arrived than was useful, by a standard error.
func (w *window) uneven() bool {
	return math.Abs(float64(w.arrivals-w.useful)) > math.Sqrt(float64(w.arrivals))
}

// add appends the window that follows w.
func (w *window) add(next *window) {
	if w.completions == 0 {
		w.start = next.start
	}
	w.arrivals += next.arrivals
	w.completions += next.completions
	w.useful += next.useful
	w.bound += next.bound
	w.took += next.took
}

// A Window is a window that has ended.
type Window struct {
	Ended bool
	// Useful is the number of useful completions, or would have been without a lower trial.
	Useful float64
}

// uncontended is what the handler does while no more requests arrive than are answered.
type uncontended struct {
	service    float64 // mean time in the handler
	throughput float64 // useful completions per nanosecond
	windows    int     // that these are of
}

// add adds a window. The first ones count the same. Later ones count by their length, but a
// shorter service time counts for at least a quarter: it is what the handler can do.
func (u *uncontended) add(w *window, now int64) {
	u.windows++
	share := max(-math.Expm1(-w.length(now)/memory), 1/float64(u.windows))
	u.throughput += (w.throughput(now) - u.throughput) * share
	took := w.mean()
	if took < u.service {
		share = max(share, 0.25)
	}
	u.service += (took - u.service) * share
}

// lasting counts the requests that have been in the handler for over a lap, and for two at
// most.
type lasting struct {
	count int      // not counted against the limit
	older int      // entered in the lap before this one
	laps  [2]int64 // when this lap began, and the one before it
}

// tick begins a lap if it is time.
func (l *lasting) tick(now, lap int64, inFlight int) {
	l.count = min(l.count, inFlight) // the clock may have been set
	if now-l.laps[0] < lap {
		return
	}
	l.count = min(l.count+l.older, inFlight)
	l.older = inFlight - l.count
	l.laps = [2]int64{now, l.laps[0]}
}

// all counts all requests in the handler.
func (l *lasting) all(now int64, inFlight int) {
	*l = lasting{count: inFlight, laps: [2]int64{now, now - 1}}
}

// leave forgets a request that entered at the given time. One that entered when a lap began,
// or by a clock that was set back since, is taken for one that entered before it.
func (l *lasting) leave(now, entered int64) {
	switch {
	case entered > now:
		l.older = max(0, l.older-1)
	case entered > l.laps[0]:
	case entered > l.laps[1]:
		l.older = max(0, l.older-1)
	default:
		l.count = max(0, l.count-1)
	}
}
