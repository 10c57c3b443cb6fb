package limit

// leaving is about callers who leave while they are in the handler. Where the limit is
// so high that callers give up before it is reached, it is never reached and nothing is
// learned. So if many leave it is lowered until it binds.
type leaving struct {
	share  float64 // moving mean of about 32 requests
	weight int     // of what is in it
	usual  float64 // the share that a lower limit does not change
	from   int     // the limit before it was lowered, 0 if it is not
	before float64 // the share then
}

const (
	leavingSpan = 32
	leavingMany = 0.25
	leavingLess = 0.75 // of the share before: to lower the limit has helped
)

// leave notes a request that stands for so many and whether its caller had gone, when
// flight were in the handler and the limit was not reached. It reports whether the limit
// has changed.
//
// Half of those in flight make a limit that binds, and so one that the experiments find
// a better one for. If they come back to the one before, it was not why callers left:
// there are services whose callers leave all the time.
func (m *machine) leave(now int64, gone bool, weight, flight int) (changed bool) {
	l := &m.leaving
	l.weight = min(l.weight+weight, leavingSpan)
	x := 0.0
	if gone {
		x = 1
	}
	l.share += (x - l.share) * float64(weight) / float64(l.weight)
	if l.weight < leavingSpan || m.upOnly || m.calm.weight < calmKnown && 2*flight <= m.limit {
		return false // for all that is known
	}
	if l.share < l.usual/2 {
		l.usual = 0
	}
	switch {
	case l.from == 0:
	case l.share < leavingLess*l.before:
		l.from = 0
	case m.limit >= l.from:
		l.usual, l.from = l.before, 0
	}
	if l.share <= l.usual+leavingMany || m.paused(now) {
		return false
	}
	if l.from == 0 {
		l.from, l.before = m.limit, l.share
	}
	m.setLimit(float64(flight)/2, 0, float64(m.limit))
	l.share, l.weight = 0, 0
	m.anew()
	m.watch(now)
	return true
}

// late reports whether a caller who left after so long had waited longer than a request
// takes that finds room, if that is known. Others leave for reasons of their own.
func (m *machine) late(took int64) bool {
	return m.calm.weight < calmKnown || float64(took) > m.calm.stay
}
