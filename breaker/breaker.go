package breaker

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/stripe"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "breaker"

// ErrOpen matches, with errors.Is, every rejection by a breaker. The error itself
// is a *resilience.Rejection with the name of the breaker, the time at which it will
// admit a call, which in HALF_OPEN and with ForcedOpen nobody knows, and the failure
// that opened it.
var ErrOpen error = &resilience.Rejection{Policy: policy, Reason: resilience.Open}

// Breaker is a circuit breaker.
//
//	         a rule of Trip holds
//	CLOSED ------------------------> OPEN <-------------------+
//	  ^                               | first call after      | credit
//	  |    credit above CloseAfter    v the open time         | used up
//	  +--------------------------- HALF_OPEN -----------------+
//
// CLOSED admits every call and counts the failures in a row. OPEN rejects every
// call until its time is over; the next call is then the only one admitted, the
// probe. HALF_OPEN has a credit: so many calls may be in flight. It starts at 1;
// a success adds 1, the k-th failure in a row takes k. HALF_OPEN is therefore a
// slow start, which doubles what it admits with each round of successes, and a
// dependency that fails again is left alone after few calls.
//
// A call is judged by resilience.OutcomeOf. One that is Ignored, because its
// caller gave up or a policy further in refused it, gives its place back and
// changes nothing. So does a call that was admitted before the last transition,
// whatever its result.
//
// A Breaker is safe for concurrent use. No call takes a lock: the state is an
// immutable episode with one word of counts, behind an atomic pointer.
type Breaker struct {
	episode atomic.Pointer[episode]
	*shared
	key     string       // what it is for in a keyed.Group
	told    *episode     // the last that was announced; only announce uses it, if there is an observer
	pending atomic.Int64 // transitions made and not yet announced
}

// shared is what a breaker and its forks have in common.
type shared struct {
	count stripe.Counters // first, for its alignment
	cfg   Config
	clock vclock.Clock
	rare  atomic.Pointer[rare]
	root  *Breaker
	// book is that of all episodes if no rule has anything to count but failures in
	// a row, which the episode does; otherwise each has its own.
	book    *book
	windows bool // some rule counts successes too
	timed   bool // some rule has a window of time
	slow    bool // some rule is a SlowRate
}

// The counters. Those of the outcomes have the numbers of the outcomes.
const (
	rejected    = int(resilience.Ignored) + 1 + iota
	wouldReject // admitted in MetricsOnly, though the state says no
)

// New returns a closed Breaker, or an error that says what to change in c.
func New(c Config) (*Breaker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{cfg: c, clock: vclock.New(c.Clock)}
	for _, r := range c.Trip {
		s.windows = s.windows || r.kind != silence
		s.timed = s.timed || r.kind == rateOver || r.kind == slowRate
		s.slow = s.slow || r.kind == slowRate
	}
	if !s.windows {
		s.book = newBook(c.Trip, 0, &s.clock)
	}
	s.root = fork(s, "", Auto)
	return s.root, nil
}

func fork(s *shared, key string, m Mode) *Breaker {
	b := &Breaker{shared: s, key: key}
	e := b.follow(&episode{}, Closed, s.clock.Nanos())
	if m != Auto {
		e = b.in(e, m)
	}
	b.episode.Store(e)
	if s.cfg.Observer != nil {
		b.told = e
	}
	return b
}

// Apply implements resilience.Policy. It returns a *resilience.Rejection that
// matches ErrOpen if the breaker does not admit the call, without an allocation.
func (b *Breaker) Apply(ctx context.Context, next resilience.Next) (err error) {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	e := b.episode.Load()
	token := e.base
	if e.state != Closed {
		if token, err = b.admit(ctx, e); err != nil {
			return err
		}
	}
	var start int64
	if b.slow {
		start = b.clock.Nanos()
	}
	err = resilience.ErrAborted
	defer func() {
		if b.slow {
			token |= b.slowness(start)
		}
		if err != nil {
			b.judge(ctx, token, err, false)
		} else {
			next.Settle(b.cfg.Until, nil, (*settler)(b), token)
		}
	}()
	err = next.Run(ctx)
	return err
}

// admit returns a token for a call that found e.
func (b *Breaker) admit(ctx context.Context, e *episode) (token uint64, err error) {
	for ; ; e = b.episode.Load() {
		if e.state == Closed {
			return e.base, nil
		}
		if e.state == HalfOpen {
			if token, ok := b.probe(e); ok {
				return token, nil
			}
		} else if now := b.clock.Nanos(); e.over(now) {
			half, token := b.halfOpen(e, now)
			if !b.install(ctx, e, half, match{rule: openTimeOver}) {
				continue // somebody else is the probe
			}
			b.announceProbe(half, token)
			return token, nil
		}
		if e.mode == MetricsOnly {
			b.count.Add(wouldReject)
			return e.base, nil // without a lease, so that its result changes nothing
		}
		b.count.Add(rejected)
		return 0, e.rejection
	}
}

// slowness returns the flags of the SlowRate rules for which a call that began at
// start was slow.
func (b *Breaker) slowness(start int64) (flags uint64) {
	took, flag := time.Duration(b.clock.Nanos()-start), uint64(slowFlag)
	for i := range b.cfg.Trip {
		if r := &b.cfg.Trip[i]; r.kind == slowRate {
			if took > r.slower {
				flags |= flag
			}
			flag <<= 1
		}
	}
	return flags
}

// announceProbe announces that e has begun. If the observer calls runtime.Goexit
// the call that was to be the probe does not run, and its place is free.
func (b *Breaker) announceProbe(e *episode, token uint64) {
	exited := true
	defer func() {
		if exited {
			if _, held := e.free(token); held {
				e.leave(resilience.Ignored)
			}
		}
	}()
	b.announce()
	exited = false
}

// over reports whether the time of an OPEN episode is over. It is over, too, for
// a clock that was set back to before its beginning.
func (e *episode) over(now int64) bool {
	return (now >= e.until || now < e.since) && e.mode != ForcedOpen
}

// probe takes a place in HALF_OPEN, if need be one whose lease has ended.
func (b *Breaker) probe(e *episode) (token uint64, ok bool) {
	now, end := b.lease()
	if token, ok = e.take(end); ok {
		return token, true
	}
	if e.closing() {
		return e.base, true // a place is not needed any more
	}
	if n := e.expire(now, end, b.lease); n > 0 {
		b.rarely().late.Add(uint64(n))
		return e.take(end)
	}
	return 0, false
}

// lease returns the time and when a lease ends that is taken now, both in ms; the
// end is rounded up.
func (b *Breaker) lease() (now, end int64) { return b.leaseAt(b.clock.Nanos()) }

func (b *Breaker) leaseAt(now int64) (_, end int64) {
	const ms = int64(time.Millisecond)
	if b.cfg.ProbeTimeout < 0 {
		return now / ms, never
	}
	return now / ms, min(never, (after(now, b.cfg.ProbeTimeout)-1)/ms+1)
}

// after returns the time d after now; a longest d lasts for ever.
func after(now int64, d time.Duration) int64 {
	return now + min(int64(d), math.MaxInt64-now)
}

// settler hears of operations that have answered, or ended, after Run returned
// without an error. It is a type of its own to keep Settle out of the API.
type settler Breaker

func (s *settler) Settle(token uint64, err error) {
	b := (*Breaker)(s)
	if err == nil {
		b.record(context.Background(), token, resilience.Success, &nothing)
	} else {
		b.judge(context.Background(), token, err, true)
	}
}

// State returns the state at this moment. It is HalfOpen as soon as the open time
// is over, whether or not a call has come since; the event and the count of
// transitions come with that call.
func (b *Breaker) State() State { return b.state(b.episode.Load()) }

func (b *Breaker) state(e *episode) State {
	if e.state == Open && e.over(b.clock.Nanos()) {
		return HalfOpen
	}
	return e.state
}

// Name returns the name from the Config.
func (b *Breaker) Name() string { return b.cfg.Name }

// Fork implements resilience.Forker: the fork is closed, has a state of its own,
// begins in the mode that b is in, and shares the configuration and the counters.
func (b *Breaker) Fork(key string) resilience.Policy {
	return fork(b.shared, key, b.Mode())
}

// idleAfter is how long a closed breaker that is on its way to opening is worth
// keeping: one whose dependency gets a call a second opens within it.
const idleAfter = 10 * time.Second

// Idle implements resilience.Forker. A breaker is idle unless it is OPEN with
// time left, has calls in flight in HALF_OPEN, or is CLOSED with a rule that is more
// than half of the way to opening it: for ten seconds, or twice the span of a
// Silence, since the first of failures in a row; for ten seconds since the last
// failure among the last calls; and those of a window for as long as they are in it. Nor is one that is
// not in the mode of the breaker that all forks come from in the end.
func (b *Breaker) Idle() bool {
	e := b.episode.Load()
	now := b.clock.Nanos()
	switch {
	case e.mode != b.root.Mode():
		return false
	case e.state == Open:
		if !e.over(now) && e.mode != ForcedOpen {
			return false
		}
		b.charge(e, now) // nobody may come to see it any more
		return true
	case e.mode == Disabled:
		return true
	case e.state == HalfOpen:
		return unpack(e.word.Load()).inFlight == 0
	}
	run, start := e.run()
	for i := range e.book.tallies {
		if e.book.tallies[i].near(now, run, time.Duration(now-start*1000)) {
			return false
		}
	}
	return true
}
