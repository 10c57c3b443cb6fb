package cascade_test

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
)

const (
	step = 100 * time.Millisecond // of what is counted by time
	rush = 2 * time.Second        // the beginning of a trouble, which is looked at apart
)

// ratio is of calls that went well.
type ratio struct{ ok, calls int }

func (s *ratio) count(ok bool) {
	s.calls++
	if ok {
		s.ok++
	}
}

func (s *ratio) add(x ratio) {
	s.ok += x.ok
	s.calls += x.calls
}

// percent is not a number if there were no calls.
func (s ratio) percent() float64 { return 100 * float64(s.ok) / float64(s.calls) }

// tally is what came of a run.
type tally struct {
	*overload
	begin time.Time // of the trouble

	mu                    sync.Mutex // guards all that follows
	before, during, later ratio      // by when a call began; later is from one second after the trouble
	calm, rushed          []time.Duration
	refusedBefore         int
	refused               int
	hopeless              int           // refused because their callers had too little time left
	heldBefore            int           // held up by the front before the trouble, and not refused
	each                  map[int]ratio // during the trouble, by the number of the caller
	arrived, useful       []int         // in each step; useful by when it was over
	began                 []ratio       // in each step
}

func newTally(o *overload, begin time.Time) *tally {
	n := int((o.lead+o.trouble+o.after)/step) + 1
	return &tally{overload: o, begin: begin, arrived: make([]int, n), useful: make([]int, n), began: make([]ratio, n), each: map[int]ratio{}}
}

// slot is the step at that time.
func (t *tally) slot(at time.Duration) int { return int((at + t.lead) / step) }

func (t *tally) arrive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.slot(time.Since(t.begin)); i < len(t.arrived) {
		t.arrived[i]++
	}
}

// hold is a request that the front has held up before the trouble.
func (t *tally) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heldBefore++
}

func (t *tally) refuse(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
	if r, ok := errors.AsType[*resilience.Rejection](err); ok && r.Detail == "too little time left" {
		t.hopeless++
	}
	if time.Now().Before(t.begin) {
		t.refusedBefore++
	}
}

// done is a call that is over.
func (t *tally) done(caller int, began time.Time, took time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := began.Sub(t.begin)
	to := from + took
	if i := t.slot(from); i < len(t.began) {
		t.began[i].count(ok)
	}
	switch {
	case from < -t.attempt: // what began later may already suffer
		t.before.count(ok)
	case 0 <= from && from < t.trouble:
		t.during.count(ok)
		r := t.each[caller]
		r.count(ok)
		t.each[caller] = r
	case from >= t.trouble+time.Second:
		t.later.count(ok)
	}
	if !ok {
		return
	}
	if i := t.slot(to); i < len(t.useful) {
		t.useful[i]++
	}
	if to < 0 {
		t.calm = append(t.calm, took)
	} else if t.rush() <= to && to < t.trouble {
		t.rushed = append(t.rushed, took)
	}
}

// at returns how many calls a second began and were useful in the step at that time.
func (t *tally) at(at time.Duration) (arrived, useful int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.slot(at + step/2)
	if i < 0 || i >= len(t.useful) {
		return 0, 0
	}
	return t.arrived[i] * int(time.Second/step), t.useful[i] * int(time.Second/step)
}

// good is how many calls were useful of those that could have been, in percent:
// those that came, or what the workers can do if that is less.
func (t *tally) good(from, to time.Duration) float64 {
	var useful, possible float64
	for at := from; at < to; at += step {
		i := t.slot(at)
		useful += float64(t.useful[i])
		if able := t.able(at); t.rate(at) > able {
			possible += able * step.Seconds()
		} else {
			possible += float64(t.arrived[i])
		}
	}
	return 100 * useful / possible
}

// recovery is how long after the trouble more than one in twenty calls still fails.
// What is looked at together is at least one step and 40 calls.
func (t *tally) recovery() (last time.Duration) {
	var sum ratio
	for i := t.slot(t.trouble); i < len(t.began); i++ {
		sum.ok += t.began[i].ok
		sum.calls += t.began[i].calls
		if sum.calls < 40 {
			continue
		}
		if sum.percent() < 95 {
			last = time.Duration(i+1)*step - t.lead - t.trouble
		}
		sum = ratio{}
	}
	return last
}

// runs is a number of each run.
type runs []float64

// mean is not a number if there were no runs.
func (r runs) mean() float64 {
	sum := 0.
	for _, x := range r {
		sum += x
	}
	return sum / float64(len(r))
}

// summary is what came of all the runs with a front.
type summary struct {
	before, during, later  ratio
	calm, rushed           []time.Duration
	good, first            runs // percent
	refused, refusedBefore runs
	hopeless, heldBefore   runs
	recoveries             runs // in seconds
	got                    runs // useful calls that began during the trouble, in percent of the capacity in good times
	each                   map[int]ratio
	bins                   []float64 // useful calls in each step from the trouble on, in all runs
	parts                  []summary // of the streams
}

func (s *summary) add(t *tally, parts []*tally) {
	s.before.add(t.before)
	s.during.add(t.during)
	s.later.add(t.later)
	if s.each == nil {
		s.each, s.bins, s.parts = map[int]ratio{}, make([]float64, len(t.useful)), make([]summary, len(parts))
	}
	for i, r := range t.each {
		r.add(s.each[i])
		s.each[i] = r
	}
	for i, n := range t.useful[t.slot(0):] {
		s.bins[i] += float64(n)
	}
	for i, part := range parts {
		s.parts[i].add(part, nil)
	}
	s.got = append(s.got, 100*float64(t.during.ok)/t.trouble.Seconds()/t.capacity())
	s.hopeless = append(s.hopeless, float64(t.hopeless))
	s.heldBefore = append(s.heldBefore, float64(t.heldBefore))
	s.calm = append(s.calm, t.calm...)
	s.rushed = append(s.rushed, t.rushed...)
	s.good = append(s.good, t.good(t.rush(), t.trouble))
	s.first = append(s.first, t.good(0, t.rush()))
	s.refused = append(s.refused, float64(t.refused))
	s.refusedBefore = append(s.refusedBefore, float64(t.refusedBefore))
	if t.after > 0 {
		s.recoveries = append(s.recoveries, t.recovery().Seconds())
	}
}

// worst is the success of the caller that had least, of those with at least 20 calls.
func (s *summary) worst() float64 {
	least := math.NaN()
	for _, r := range s.each {
		if r.calls >= 20 && !(r.percent() >= least) {
			least = r.percent()
		}
	}
	return least
}

// p99 is in milliseconds, and not a number if there were no calls.
func p99(of []time.Duration) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	slices.Sort(of)
	return float64(of[len(of)*99/100].Microseconds()) / 1000
}
