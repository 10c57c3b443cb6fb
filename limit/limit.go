// Package limit bounds the requests in a handler by what it is capable of, which it
// finds out by experiment, so that an overload costs no throughput.
//
//	l, err := limit.New(limit.Config{Name: "orders"})
//	mux.Handle("/orders", httpmw.Server{Policy: l}.Wrap(orders))
package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "limit"

// ErrLimited matches, with errors.Is, every rejection by a limit. The error itself is
// a *resilience.Rejection.
var ErrLimited error = &resilience.Rejection{Policy: policy, Reason: resilience.Limited}

// Limit bounds the requests in a handler. It needs no number: it asks the handler.
//
// While fewer requests are in the handler than its limit, it does nothing. When the
// limit is reached, and no fewer come than go, it tries another one and compares the
// throughput: useful completions in a second, those whose caller was still there.
// Twice the limit and the throughput follows: the limit was too low. A quarter of it
// and the throughput stays: it was too high. When the throughput falls with the limit,
// the two say where the knee is, the fewest requests in flight with which the handler
// does all it can (Little's law). The limit becomes one and a half times the knee and
// the experiment rests, longer each time. A handler that merely becomes slower has the
// same knee.
//
// Requests over the limit wait and leave when their callers do: first in, first out, but
// the newest goes first while the line grows, since the oldest would be given up by their
// callers in the handler. Nobody is refused because the limit is reached, unless more than Config.MaxQueue
// wait. Only when an experiment has shown that a higher limit does not help, and for
// a fifth of a second more come than go while it is reached, is it an overload: then
// who has waited for as long as a request stays in the handler, at least 5 ms, is
// refused. The overload is over when for a second fewer come
// than go, or nobody waits.
//
// What goes on after it has answered, as a stream does and what an upgrade has made of
// a connection, is no work that a limit can pace: it gives its place back when it
// answers.
//
// A limit must see all of the load: it belongs into the server. In one client of many
// it would raise itself without end, since who halves his share of a service that
// others use halves his own throughput, though the service is saturated.
//
// A Limit is safe for concurrent use.
type Limit struct {
	*shared
	key string // what it is for in a keyed.Group
	rejections

	// word is a bit that says that the limit is watched, the limit in force and the
	// number of requests in the handler, from above. While the bit is not set a request
	// that finds room enters by adding one and leaves by taking one away. To set it
	// excludes these, and whoever holds mu does so first; only they write a word that
	// has it.
	word atomic.Uint64
	// crowded says that requests wait for a processor. It lies beside word, which
	// every request has to fetch.
	crowded atomic.Bool

	mu      sync.Mutex // guards what follows
	machine machine
	line    line
	flight  int   // in the handler; between lock and unlock it is here and not in word
	watched bool  // the bit is to stay
	now     int64 // time does not go back
	told    teller
	checks  bool // look is going to be called
}

const (
	flightBits   = 32
	flightMask   = 1<<flightBits - 1
	watchedBit   = 1 << 63
	sampleWeight = 8 // one of so many requests that leave without a lock is looked at
)

// stood is a bit of when a request entered that says that it had stood in line for so
// long that it tells nothing about the handler if its caller leaves.
const stood = 1

func room(word uint64) bool {
	return word&watchedBit == 0 && word&flightMask < word>>flightBits
}

// shared is what a limit and its forks have in common.
type shared struct {
	count     counters.Set // first, for its alignment
	cfg       Config
	clock     vclock.Clock
	root      *Limit
	tests     [5]atomic.Uint64
	overloads atomic.Uint64
}

// The counters.
const (
	useful = iota
	gone
	shed
	queueFull
	canceled
)

// New returns a Limit, or an error that says what to change in c.
func New(c Config) (*Limit, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{cfg: c, clock: vclock.New(c.Clock)}
	s.root = fork(s, "")
	return s.root, nil
}

func fork(s *shared, key string) *Limit {
	l := &Limit{shared: s, key: key, machine: newMachine(min(least, s.cfg.Max), s.cfg.Max, s.cfg.Shadow)}
	l.word.Store(uint64(l.machine.level) << flightBits)
	return l
}

// Apply implements resilience.Policy. It returns a *resilience.Rejection that matches
// ErrLimited if it refuses, and the error of ctx if that ends while the request waits.
func (l *Limit) Apply(ctx context.Context, next resilience.Next) (err error) {
	entered, err := l.enter(ctx)
	if err != nil {
		return err
	}
	if l.await(next, entered) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	if next.Lasting() {
		defer func() { next.Settle(resilience.Answered, err, (*place)(l), uint64(entered)) }()
	} else {
		defer func() { l.end(ctx, entered, err) }()
	}
	err = next.Run(ctx)
	return err
}

// await has the place given back when the operation answers, if it can tell. It is code
// of the user.
func (l *Limit) await(next resilience.Next, entered int64) (awaits bool) {
	panics := true
	defer func() {
		if panics {
			l.leave(entered, true, true)
		}
	}()
	l.giveWay(entered)
	awaits = next.Await((*place)(l), uint64(entered))
	panics = false
	return awaits
}

// place is a Limit that hears of the answers of operations. That of one whose caller
// left is the end of its context.
type place Limit

func (p *place) Settle(entered uint64, err error) {
	left, refused := false, false
	defer func() { (*Limit)(p).leave(int64(entered), !left, refused) }() // whatever methods of err do
	refused = rejected(err)
	left = err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// end gives a place back that was taken at entered. The request was useful if its
// caller was still there.
func (l *Limit) end(ctx context.Context, entered int64, err error) {
	left, refused := false, false
	defer func() { l.leave(entered, !left, refused) }() // whatever methods of err and ctx do
	refused = rejected(err)
	left = ctx.Err() != nil
}

// rejected reports whether a policy further in refused. That was no work: it says
// nothing of the throughput.
func rejected(err error) bool { return err != nil && errors.Is(err, resilience.ErrRejected) }

// enter takes a place, waiting for it if it must, and returns when it got it.
func (l *Limit) enter(ctx context.Context) (entered int64, err error) {
	if ctx.Err() != nil {
		return 0, resilience.ContextError(ctx)
	}
	now := l.clock.Nanos()
	for w := l.word.Load(); room(w); w = l.word.Load() {
		if l.word.CompareAndSwap(w, w+1) {
			return now &^ stood, nil
		}
	}
	return l.arrive(ctx, now)
}

// leave gives a place back. Of requests that find room one of some is looked at.
func (l *Limit) leave(entered int64, ok, refused bool) {
	if refused {
		l.count.Add(useful)
		l.lock(0)
		l.flight--
		l.unlock(context.Background())
		return
	}
	now := l.clock.Nanos()
	if !ok {
		l.count.Add(gone)
		l.complete(entered, now, false, 1)
		return
	}
	l.count.Add(useful)
	if rand.Uint32()%sampleWeight == 0 {
		l.complete(entered, now, true, sampleWeight)
		return
	}
	for w := l.word.Load(); w&watchedBit == 0; w = l.word.Load() {
		if l.word.CompareAndSwap(w, w-1) {
			return
		}
	}
	l.complete(entered, now, true, 0)
}

// lock makes the word that of whoever holds mu. It returns now, unless somebody was
// later.
func (l *Limit) lock(now int64) int64 {
	l.mu.Lock()
	l.flight = int(l.word.Or(watchedBit) & flightMask)
	l.now = max(l.now, now)
	return l.now
}

// unlock is release, after which it tells what there is to tell, when nothing is locked.
func (l *Limit) unlock(ctx context.Context) {
	tell := l.note(l.machine.overload)
	l.release()
	if tell {
		l.tell(ctx)
	}
}

// release serves the line, gives the word back, and unlocks.
func (l *Limit) release() {
	l.serve()
	if l.inLine() == 0 && l.machine.idle() {
		l.watched = false
	}
	l.tally()
	w := uint64(l.machine.level)<<flightBits | uint64(l.flight)
	if l.watched {
		w |= watchedBit
	}
	l.word.Store(w)
	check := l.machine.overload && !l.checks
	l.checks = l.checks || check
	l.mu.Unlock()
	if check {
		l.clock.AfterFunc(time.Duration(checkEnd), l.look)
	}
}

// look looks once in a second whether an overload is over, since there may be no
// request to tell it by.
func (l *Limit) look() {
	l.lock(l.clock.Nanos())
	l.checks = false
	l.machine.relax(l.now)
	l.unlock(context.Background())
}

// watch has the machine hear of what comes and goes.
func (l *Limit) watch() {
	if !l.watched {
		l.watched = true
		l.machine.bind(l.now)
	}
}

// complete is leave for a request that must be looked at. It stands for so many, 0 if
// it was not chosen to.
func (l *Limit) complete(entered, now int64, ok bool, weight int) {
	now = l.lock(now)
	m := &l.machine
	if l.watched {
		weight = 1
		m.complete(now, now-entered, ok, l.flight, l.inLine())
	}
	if ok && weight > 0 && l.line.n == 0 && 2*l.flight <= m.level {
		m.calm.add(now, max(0, now-entered), weight) // the clock may have been set back
	}
	gone := !ok && m.late(now-entered)
	if weight > 0 && entered&stood == 0 && l.line.n == 0 && l.flight < m.level && m.leave(now, gone, weight, l.flight) {
		l.watch()
	}
	l.flight--
	l.unlock(context.Background())
}

// inLine is how many wait or, in shadow mode, would.
func (l *Limit) inLine() int {
	if l.cfg.Shadow {
		return max(0, l.flight-l.machine.level)
	}
	return l.line.n
}

// wouldRefuse counts a request that is not refused because of shadow mode.
func (l *Limit) wouldRefuse() {
	over := l.flight - l.machine.level
	switch m := &l.machine; {
	case over < 0:
	case over >= l.maxQueue():
		l.count.Add(queueFull)
	case m.overload && float64(over)*m.pace.gap > float64(m.patience()):
		l.count.Add(shed)
	}
}

// Name returns the name from the Config.
func (l *Limit) Name() string { return l.cfg.Name }

// Fork implements resilience.Forker: the fork has a limit of its own, and shares the
// configuration and the counters of l.
func (l *Limit) Fork(key string) resilience.Policy { return fork(l.shared, key) }

// Idle implements resilience.Forker: no request is in the handler or waits for it.
func (l *Limit) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.word.Load()&flightMask == 0 && l.line.n == 0
}
