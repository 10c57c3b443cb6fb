package rank_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit/internal/rank"
)

var priorities = []resilience.Priority{resilience.Critical, resilience.Normal, resilience.Low, resilience.Lowest}

// arrive counts n requests of a priority.
func arrive(q *rank.Queue[int], p resilience.Priority, n int) {
	for range n {
		q.Arrive(0, rank.Of(p, ""))
	}
}

// The edge is the first priority at which, together with all before it, more arrives than is
// completed by one standard deviation.
func TestQueue_edge(t *testing.T) {
	const none = resilience.Lowest - 1
	for name, tt := range map[string]struct {
		arrivals  [4]int // in a window, by priority
		completed float64
		want      resilience.Priority
	}{
		"critical alone is too much":      {[4]int{60}, 50, resilience.Critical},
		"normal is too much":              {[4]int{25, 40}, 50, resilience.Normal},
		"only lowest":                     {[4]int{10, 10, 10, 600}, 50, resilience.Lowest},
		"low, and nobody is lowest":       {[4]int{10, 10, 40}, 50, resilience.Low},
		"as much as is completed":         {[4]int{20, 20, 5, 5}, 50, none},
		"less than a standard deviation":  {[4]int{20, 20, 5, 6}, 50, none},
		"more than a standard deviation":  {[4]int{20, 20, 5, 9}, 50, resilience.Lowest},
		"nothing is completed":            {[4]int{0, 1, 1, 1}, 0, resilience.Normal},
		"nothing arrives":                 {[4]int{}, 50, none},
		"completed is not a number":       {[4]int{0, 9, 9}, math.NaN(), resilience.Normal},
		"completed is negative":           {[4]int{0, 9, 9}, -1e300, resilience.Normal},
		"infinitely many are completed":   {[4]int{99, 99, 99, 99}, math.Inf(1), none},
		"thousands, and each is too much": {[4]int{3000, 3000, 3000, 3000}, 2000, resilience.Critical},
	} {
		var q rank.Queue[int]
		arrive(&q, resilience.Critical, 1) // so that the queue has a table
		q.Skip()
		for range 50 {
			for i, p := range priorities {
				arrive(&q, p, tt.arrivals[i])
			}
			q.Measure(tt.completed)
		}
		got, ok := q.Edge()
		if !ok {
			got = none
		}
		if got != tt.want {
			t.Errorf("%s: the edge is %d, want %d", name, got, tt.want)
		}
	}
}

// A window with a number of completions that is out of range is forgotten as others are.
func TestQueue_edgeAfterInfinity(t *testing.T) {
	var q rank.Queue[int]
	for i := range 400 {
		arrive(&q, resilience.Critical, 100)
		q.Measure([]float64{math.Inf(1), 50}[min(i, 1)])
	}
	if p, ok := q.Edge(); !ok || p != resilience.Critical {
		t.Errorf("the edge is %v, %t", p, ok)
	}
}

// A request that is taken back does not count for its caller, an hour later either: it does
// not change the rank of the caller's next request.
func TestQueue_undo(t *testing.T) {
	classes := []rank.Class{rank.Of(0, "a"), rank.Of(0, "b")}
	for _, later := range []time.Duration{0, time.Second, 100 * time.Second, time.Hour} {
		var q, other rank.Queue[int]
		var tickets []rank.Ticket
		at := int64(200 * time.Second)
		for range 1000 {
			q.Arrive(at, classes[1])
			other.Arrive(at, classes[1])
			tickets = append(tickets, q.Arrive(at, classes[0]))
		}
		at += int64(later)
		for range 1000 {
			q.Arrive(at, classes[1])
			other.Arrive(at, classes[1])
		}
		for _, ticket := range tickets {
			q.Undo(ticket)
		}
		got, want := q.Arrive(at, classes[0]), other.Arrive(at, classes[0])
		if got != want {
			t.Errorf("after %v: the next ticket is %v, want %v", later, got, want)
		}
	}
}

// While no request differs, all of them are from the edge on. When one does, none is until the
// first window has ended.
func TestQueue_edgeUnknown(t *testing.T) {
	var q rank.Queue[int]
	arrive(&q, resilience.Normal, 100)
	q.Measure(1)
	if p, ok := q.Edge(); !ok || p != resilience.Normal {
		t.Errorf("no request differs: %v, %t", p, ok)
	}
	arrive(&q, resilience.Low, 100)
	if _, ok := q.Edge(); ok {
		t.Error("there is an edge before the first window has ended")
	}
	q.Measure(1)
	if p, ok := q.Edge(); !ok || p != resilience.Low {
		t.Errorf("after a window: %v, %t", p, ok)
	}
}

// A window that is skipped changes nothing, and its arrivals do not count later.
func TestQueue_skip(t *testing.T) {
	var q rank.Queue[int]
	for range 50 {
		arrive(&q, resilience.Critical, 20)
		arrive(&q, resilience.Low, 100)
		q.Measure(50)
	}
	for range 50 {
		arrive(&q, resilience.Critical, 1000)
		q.Skip()
	}
	if p, ok := q.Edge(); !ok || p != resilience.Low {
		t.Errorf("skipped windows moved the edge to %v, %t", p, ok)
	}
	arrive(&q, resilience.Critical, 20)
	q.Measure(50)
	if p, ok := q.Edge(); ok && p == resilience.Critical {
		t.Error("arrivals of skipped windows count")
	}
}

// After the load has changed, the edge follows within two seconds.
func TestQueue_edgeMoves(t *testing.T) {
	var q rank.Queue[int]
	windows := func(n, critical int) {
		for range n {
			arrive(&q, resilience.Critical, critical)
			arrive(&q, resilience.Low, 60)
			q.Measure(50)
		}
	}
	windows(200, 10)
	for i, want := range []resilience.Priority{resilience.Critical, resilience.Low, resilience.Critical} {
		windows(40, []int{100, 10, 100}[i])
		if p, ok := q.Edge(); !ok || p != want {
			t.Errorf("change %d: the edge is %v, %t, want %v", i, p, ok, want)
		}
	}
}

// flow is the requests of one kind: so many for each that the server can complete.
type flow struct {
	load     float64
	priority resilience.Priority
	callers  []string // each request is of one of them
	arrived  float64
	served   float64
}

// share returns the part of the requests that were served.
func (f *flow) share() float64 { return f.served / f.arrived }

// serve runs an overloaded server for a minute of its time. It completes one request each
// millisecond, and rejects requests as a limit does in an overload.
func serve(seed uint64, flows ...*flow) {
	const ms = int64(time.Millisecond)
	const patience, full = 12 * ms, 1000
	random := rand.New(rand.NewPCG(seed, 7))
	var q rank.Queue[*flow]
	reject := func(r *rank.Request[*flow]) {
		q.Remove(r)
		q.Undo(r.Ticket)
	}
	for now := int64(0); now < 60_000*ms; now += ms {
		for _, i := range random.Perm(len(flows)) {
			f := flows[i]
			for range poisson(random, f.load) {
				caller := ""
				if len(f.callers) > 0 {
					caller = f.callers[random.IntN(len(f.callers))]
				}
				if now > 5000*ms { // the edge and the shares are known
					f.arrived++
				}
				ticket := q.Arrive(now, rank.Of(f.priority, caller))
				if q.Len() >= full {
					r := q.Displaced(ticket, true)
					if r == nil {
						q.Undo(ticket)
						continue
					}
					reject(r)
				}
				q.Push(&rank.Request[*flow]{Ticket: ticket, Since: now, Value: f})
			}
		}
		for r := range q.Overdue(now, patience, 8*patience) {
			reject(r)
		}
		if r := q.Next(true); r != nil {
			q.Remove(r)
			if r.Since > 5000*ms {
				r.Value.served++
			}
		}
		if now%(50*ms) == 0 {
			q.Measure(50)
		}
	}
}

// poisson returns a number of arrivals whose mean is mean.
func poisson(random *rand.Rand, mean float64) (n int) {
	for at := random.ExpFloat64(); at < mean; at += random.ExpFloat64() {
		n++
	}
	return n
}

// callers returns the names of n callers.
func callers(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("caller ", i))
	}
	return names
}

// At twelve times the load of bulk, critical requests succeed, and bulk gets what they leave.
func TestQueue_criticalFirst(t *testing.T) {
	for _, load := range []float64{.5, .7, .9} {
		for seed := range uint64(5) {
			critical := &flow{load: load, priority: resilience.Critical}
			bulk := &flow{load: 12 * (1 - load), priority: resilience.Low}
			serve(seed, critical, bulk)
			if critical.share() < .999 {
				t.Errorf("critical at %v, seed %d: %.4f succeed", load, seed, critical.share())
			}
			if got := (critical.served + bulk.served) / 55_000; got < .99 {
				t.Errorf("critical at %v, seed %d: the server completes %.3f of its capacity", load, seed, got)
			}
		}
	}
}

// Callers below their fair share succeed whatever another one does, even if it says that all
// it does is as important. That one gets what they leave.
func TestQueue_fairShare(t *testing.T) {
	for _, n := range []int{9, 99, 999} {
		for _, load := range []float64{.5, .8} {
			others := &flow{load: load, callers: callers(n)}
			hog := &flow{load: 3, callers: []string{"hog"}}
			serve(uint64(n), others, hog)
			if others.share() < .99 {
				t.Errorf("%d others at %v: %.4f succeed", n, load, others.share())
			}
			if got := hog.served / 55_000; math.Abs(got-(1-load)) > .02 {
				t.Errorf("%d others at %v: the hog gets %.3f of the capacity", n, load, got)
			}
		}
	}
}

// Requests with the caller "" are one caller's: they do not push the named callers aside.
func TestQueue_noCallerIsOne(t *testing.T) {
	named := &flow{load: .8, callers: callers(9)}
	unnamed := &flow{load: 3}
	serve(1, named, unnamed)
	if named.share() < .99 {
		t.Errorf("%.4f of the named callers' requests succeed", named.share())
	}
}

// Without ranks the queue serves all alike, and the server loses nothing.
func TestQueue_noRanks(t *testing.T) {
	one, other := &flow{load: 1}, &flow{load: 1}
	serve(1, one, other)
	if math.Abs(one.share()-other.share()) > .02 || one.served+other.served < .99*55_000 {
		t.Errorf("%.3f and %.3f succeed", one.share(), other.share())
	}
}
