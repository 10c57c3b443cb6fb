package limit

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit/internal/rank"
)

const (
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

// A world is a server in simulated time: a handler with its workers and, unless it is bare, a
// gate in front of it. It has no goroutine, so a second of a thousand requests takes about a
// millisecond.
type world struct {
	*rand.Rand
	gate *gate // nil: without a limit

	now    int64
	seq    int
	events events

	workers int     // 0: any number of requests is worked on
	work    float64 // mean work of a request, in nanoseconds
	spread  spread  // of the work
	deaf    bool    // requests whose callers have left are worked on
	blind   bool    // the gate is not told that callers have left
	locked  int64   // until when no work begins
	clock   int64   // by how much the gate's clock is wrong
	seen    int64   // the latest time that the gate has seen

	busy    int
	inside  []*request // requests that wait for a worker
	waiters map[*waiter]*request

	tally
}

// A spread is how the work of requests is distributed.
type spread uint8

const (
	exponential spread = iota
	narrow             // within a tenth of the mean
	logNormal          // with a standard deviation of 1.3 times the mean
)

// A tally counts requests that are not part of an attack.
type tally struct{ sent, good, rejected, held int }

// A request is one of the load, or of an attack on the server.
type request struct {
	patience int64 // until its caller leaves
	work     int64
	workless int64 // how long it is in the handler without work, before it leaves
	after    int64 // how long it is in the handler after its work
	attack   bool
	rank     *rank.Class // nil for Normal without a caller

	sent, entered int64
	left          bool // its caller has
	started, over bool
	waiter        *waiter
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

func newWorld(seed uint64, workers int, g *gate) *world {
	return &world{
		Rand: rand.New(rand.NewPCG(seed, 17)), gate: g, workers: workers, work: float64(10 * ms),
		waiters: map[*waiter]*request{}, now: sec,
	}
}

// at calls do at a time.
func (w *world) at(at int64, do func()) {
	w.seq++
	heap.Push(&w.events, event{max(at, w.now), w.seq, do})
}

func (w *world) in(d int64, do func()) { w.at(w.now+d, do) }

// run lets the time pass until then.
func (w *world) run(d int64) {
	until := w.now + d
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// drain lets the time pass until nothing happens any more.
func (w *world) drain() {
	for len(w.events) > 0 {
		w.run(w.events[0].at - w.now)
	}
}

// gateTime is the time that Limit.lock returns.
func (w *world) gateTime() int64 {
	now := w.now + w.clock
	if now < w.seen-sec {
		w.seen = now
		w.gate.restart(now)
	}
	w.seen = max(w.seen, now)
	return w.seen
}

// load sends so many requests a second for so long, whose callers leave after patience.
func (w *world) load(rps float64, patience, d int64) {
	w.loadInBackground(func() float64 { return rps }, patience, d)
	w.run(d)
}

// loadInBackground is load with a rate that changes.
func (w *world) loadInBackground(rps func() float64, patience, d int64) {
	end := w.now + d
	var next func()
	next = func() {
		if w.now >= end {
			return
		}
		w.send(&request{patience: patience, work: w.draw()})
		w.in(int64(w.ExpFloat64()/rps()*float64(sec)), next)
	}
	w.in(int64(w.ExpFloat64()/rps()*float64(sec)), next)
}

func (w *world) draw() int64 {
	switch {
	case w.workers == 0 || w.spread == narrow:
		return int64((0.9 + 0.2*w.Float64()) * w.work)
	case w.spread == logNormal:
		return int64(math.Exp(w.NormFloat64()-.5) * w.work)
	default:
		return int64(w.ExpFloat64() * w.work)
	}
}

// each calls do now and after each period, for so long.
func (w *world) each(period, d int64, do func()) {
	for at := int64(0); at < d; at += period {
		w.in(at, do)
	}
}

// uploads sends n slow uploads: they are in the handler for so long without work.
func (w *world) uploads(n int, d int64) {
	for range n {
		w.send(&request{patience: math.MaxInt64 / 4, workless: d, attack: true})
	}
}

// leavers sends n requests without work whose callers leave after so long.
func (w *world) leavers(n int, d int64) {
	for range n {
		w.send(&request{patience: d, workless: 10 * sec, attack: true})
	}
}

// send lets a request arrive.
func (w *world) send(r *request) {
	r.sent = w.now
	if !r.attack {
		w.sent++
	}
	if r.patience < math.MaxInt64/4 {
		w.in(r.patience, func() { w.leave(r) })
	}
	if w.gate == nil {
		w.enter(r)
		return
	}
	g := w.gate
	if !g.watched && g.inFlight < g.search.WatchFrom() {
		g.inFlight++
		w.enter(r)
		return
	}
	class := rank.Of(resilience.Normal, "")
	if r.rank != nil {
		class = *r.rank
	}
	waiter, d := g.arrive(w.gateTime(), class, w.gateTime()+r.patience)
	switch {
	case waiter != nil:
		r.waiter = waiter
		w.waiters[waiter] = r
		if !r.attack {
			w.held++
		}
	case d == displaced && !g.shadow:
		w.reject(r)
	default:
		w.enter(r)
	}
	w.decide()
}

// decide does what the gate has decided.
func (w *world) decide() {
	g := w.gate
	for len(g.decided) > 0 {
		decided := g.decided
		g.decided = nil
		for _, waiter := range decided {
			r := w.waiters[waiter]
			delete(w.waiters, waiter)
			r.waiter = nil
			if waiter.Value.decision == admitted {
				w.enter(r)
			} else {
				w.reject(r)
			}
		}
	}
	if g.queued() > 0 || g.search.Overload() {
		w.lookAgain()
	}
}

// lookAgain is what Limit.look does.
func (w *world) lookAgain() {
	g := w.gate
	if g.looks {
		return
	}
	g.looks = true
	w.in(sec, func() {
		g.looks = false
		g.tick(w.gateTime())
		w.decide()
	})
}

func (w *world) reject(r *request) {
	r.over = true
	if !r.attack {
		w.rejected++
	}
}

// enter lets a request enter the handler.
func (w *world) enter(r *request) {
	if w.gate != nil {
		r.entered = w.gateTime()
	}
	switch {
	case r.workless > 0:
		r.started = true
		w.in(r.workless, func() { w.finish(r) })
	case w.workers == 0:
		r.started = true
		w.in(max(0, w.locked-w.now)+r.work, func() { w.finish(r) })
	default:
		w.inside = append(w.inside, r)
		w.start()
	}
}

// start gives free workers something to do.
func (w *world) start() {
	for w.busy < w.workers && len(w.inside) > 0 {
		r := w.inside[0]
		w.inside = w.inside[1:]
		if r.over {
			continue
		}
		r.started = true
		w.busy++
		w.in(max(0, w.locked-w.now)+r.work, func() {
			w.busy--
			w.in(r.after, func() { w.finish(r) })
			w.start()
		})
	}
}

// leave is when the caller of a request leaves. A request that is worked on goes on.
func (w *world) leave(r *request) {
	if r.over {
		return
	}
	r.left = true
	switch {
	case w.blind:
	case r.waiter != nil:
		g := w.gate
		delete(w.waiters, r.waiter)
		g.quit(w.gateTime(), r.waiter)
		r.over, r.waiter = true, nil
		w.decide()
	case w.deaf && !r.attack, r.started && w.workers > 0 && r.workless == 0:
	default:
		w.finish(r)
	}
}

// finish ends a request in the handler.
func (w *world) finish(r *request) {
	if r.over {
		return
	}
	r.over = true
	if !r.left && !r.attack {
		w.good++
	}
	g := w.gate
	if g == nil {
		return
	}
	weight, useful := 1, !r.left || w.blind
	if useful {
		if weight = 0; sampled(w.now) {
			weight = sampleWeight
		}
		if weight == 0 && !g.watched && !g.search.Rare() {
			g.inFlight--
			return
		}
	}
	g.leave(w.gateTime(), r.entered, useful, weight)
	w.decide()
}
