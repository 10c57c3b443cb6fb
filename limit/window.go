package limit

import "math"

// A window counts what comes and goes from one completion to another. The completion
// that it starts with is not in it.
type window struct {
	start                                        int64
	arrivals, completions, useful, late, reached int
}

// throughput is in useful completions for each nanosecond.
func (w *window) throughput(now int64) float64 {
	if now <= w.start {
		return 0
	}
	return float64(w.useful) / float64(now-w.start)
}

// binds reports whether the limit was reached for nearly all of the window.
func (w *window) binds() bool { return 8*w.reached >= 7*w.completions }

// grew reports whether more came than went.
func (w *window) grew() bool { return w.arrivals > w.completions }

// fellBehind reports whether more came than went with something.
func (w *window) fellBehind() bool { return w.arrivals > w.useful }

// leaving reports whether many callers left because they had waited for long.
func (w *window) leaving() bool {
	return float64(w.late) > leavingMany*float64(w.completions)
}

// A pace is how quickly useful completions follow one another.
type pace struct {
	gap  float64 // moving mean of about 32 of them, in nanoseconds
	n    int     // how many are in it
	last int64   // when the last useful completion came
	new  bool    // last is when the limit was reached
}

// begin notes that the limit has been reached.
func (p *pace) begin(now int64) { p.last, p.new = now, true }

const (
	paceKnown = 8  // gaps that make a mean
	paceSpan  = 32 // gaps that a mean is of
)

// add notes a useful completion. It reports whether there had been a stall before it:
// a gap so long that it tells of a pause and not of the throughput.
func (p *pace) add(now int64, longest float64) (stalled bool) {
	last := p.last
	p.last = now
	if p.new {
		p.new = false
		return true // nobody knows what was before
	}
	gap := float64(now - last)
	if gap > longest {
		gap, stalled = longest, true // it may be how things are now, so it counts for something
	}
	p.n = min(p.n+1, paceSpan)
	p.gap += (gap - p.gap) / float64(p.n)
	return stalled
}

func (p *pace) known() bool { return p.n >= paceKnown }

// longest is how long a gap may be that is no stall. Where all requests take the same
// time they come out in batches, one request apart.
func (p *pace) longest(limit int, calm float64) float64 {
	switch {
	case p.known():
		return 2 * float64(max(8, limit)) * p.gap
	case calm > 0:
		return 4 * calm
	default:
		return math.MaxFloat64
	}
}

// stay is how long a request is in the handler while limit of them are.
func (p *pace) stay(limit int) float64 { return float64(limit) * p.gap }
