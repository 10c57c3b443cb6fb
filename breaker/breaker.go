package breaker

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "breaker"

// ErrOpen matches, with errors.Is, every rejection by a breaker. The error itself is a
// *resilience.Rejection with the name of the breaker, the time at which it will admit
// a call, and the failure that opened it. The time is zero in HALF_OPEN and with
// ForcedOpen, where it is unknown.
var ErrOpen error = &resilience.Rejection{Policy: policy, Reason: resilience.Open}

// Breaker is a circuit breaker.
//
//	         a rule of Trip holds
//	CLOSED ------------------------> OPEN <-------------------+
//	  ^                               | first call after      | the probe fails, or
//	  |    credit above CloseAfter    v the open time         | a rule of Trip holds
//	  +--------------------------- HALF_OPEN -----------------+
//
// CLOSED admits every call and counts failures for the rules. OPEN rejects every call
// until its time is over; the next call is then admitted as the probe. HALF_OPEN has a
// credit, the number of calls that may be in flight. It starts at 1, and if that probe fails,
// the breaker opens again. A success adds 1. So HALF_OPEN is a slow start: each round of
// successes doubles the calls that it admits. After the first success, the rules of Trip judge
// the failures of HALF_OPEN, with two exceptions. The Span of a Silence does not apply if as
// many calls in a row have failed as may be in flight and the last of them has timed out. A
// failure of a call that was admitted before the last success is no part of a row.
//
// A timeout is a failure whose error has a method Timeout() bool that returns true or
// matches context.DeadlineExceeded, or of a call whose context a timeout has ended. If Trip
// has a Rate or a Slow, no rule judges HALF_OPEN. Then the k-th failure in a row takes k from
// the credit, and the breaker opens when there is none left.
//
// resilience.OutcomeOf decides the outcome of a call. A call is Ignored if its caller
// canceled it or an inner policy rejected it: it frees its slot and changes nothing. A
// call that was admitted before the last transition changes nothing either, whatever
// its result.
//
// A Breaker is safe for concurrent use. No call takes a lock: the state is an
// immutable episode with one word of counts, behind an atomic pointer.
type Breaker struct {
	episode atomic.Pointer[episode]
	*shared
	key    string // of the fork in a keyed.Group
	events announcer
}

// shared is the part of a breaker that its forks share.
type shared struct {
	count    counters.Set // first, for its alignment
	cfg      Config
	rules    []rule // Config.Trip, compiled
	clock    vclock.Clock
	counters atomic.Pointer[outageCounters] // see outages
	root     *Breaker                       // the breaker that New returned
	// book is shared by all episodes if every rule counts failures in a row, which are
	// in the episode's word. Otherwise it is nil and each CLOSED episode has its own.
	book    *book
	windows bool // some rule counts successes too
	timed   bool // some rule has a window of time
	slow    bool // some rule is a Slow
}

// New returns a closed Breaker, or an error that says what to change in c.
func New(c Config) (*Breaker, error) {
	c, rules, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{cfg: c, rules: rules, clock: vclock.New(c.Clock)}
	for i := range rules {
		k := rules[i].kind
		s.windows = s.windows || k != silence
		s.timed = s.timed || k == rateOver || k == slow
		s.slow = s.slow || k == slow
	}
	if !s.windows {
		s.book = newBook(rules, 0, &s.clock)
	}
	s.root = newFork(s, "", Auto)
	return s.root, nil
}

func newFork(s *shared, key string, m Mode) *Breaker {
	b := &Breaker{shared: s, key: key}
	e := b.follow(&episode{}, Closed, s.clock.Nanos())
	if m != Auto {
		e = b.in(e, m)
	}
	b.episode.Store(e)
	if s.cfg.Observer != nil {
		b.events.announced = e
	}
	return b
}

// Fork implements resilience.Forker. The fork is closed, has a state of its own, starts
// in the mode of b, and shares the configuration and the counters. Its errors and events
// have the key.
func (b *Breaker) Fork(key string) resilience.Policy {
	return newFork(b.shared, key, b.Mode())
}

// Apply implements resilience.Policy. If the breaker rejects the call, Apply returns a
// *resilience.Rejection that matches ErrOpen, without an allocation. If ctx is already
// done, Apply returns its error and counts nothing.
func (b *Breaker) Apply(ctx context.Context, next resilience.Next) (err error) {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	e := b.episode.Load()
	token := e.base
	if e.state != Closed || e.word.Load() != 0 { // otherwise the dependency is healthy
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
			err = b.judge(ctx, token, err, false)
		} else {
			next.Settle(b.cfg.Until, nil, (*settler)(b), token)
		}
	}()
	err = next.Run(ctx)
	return err
}

// Acquire admits work that cannot be wrapped in a function. It returns the errors of
// Apply: a *resilience.Rejection that matches ErrOpen, or the error of a ctx that is
// already done. The caller reports the result to Done. A permit whose Done is never
// called counts nothing and holds its slot in HALF_OPEN until Config.ProbeTimeout.
func (b *Breaker) Acquire(ctx context.Context) (*Permit, error) {
	if ctx.Err() != nil {
		return nil, resilience.ContextError(ctx)
	}
	token, err := b.admit(ctx, b.episode.Load())
	if err != nil {
		return nil, err
	}
	p := &Permit{b: b, ctx: ctx, token: token}
	if b.slow {
		p.start = b.clock.Nanos()
	}
	return p, nil
}

// admit returns a token for a call that found e.
func (b *Breaker) admit(ctx context.Context, e *episode) (token uint64, err error) {
	for ; ; e = b.episode.Load() {
		if e.state == Closed {
			if e.word.Load() == 0 {
				return e.base, nil
			}
			return e.enter(b.clock.Nanos()), nil
		}
		if e.state == HalfOpen {
			if token, ok := b.probe(e); ok {
				return token, nil
			}
		} else if now := b.clock.Nanos(); e.over(now) {
			half, token := b.halfOpen(e, now)
			if !b.install(ctx, e, half, match{rule: CauseOpenTimeOver}) {
				continue // another goroutine holds the probe
			}
			b.announceProbe(token)
			return token, nil
		}
		if e.mode == MetricsOnly {
			b.count.Add(wouldReject)
			return e.base, nil // without a lease, so that its result changes nothing
		}
		b.count.Add(rejected)
		return 0, &e.rejection.Rejection
	}
}

// cancel returns the token of a call that did not run.
func (b *Breaker) cancel(token uint64) {
	e := b.episode.Load()
	switch {
	case !e.admitted(token):
	case e.state == HalfOpen:
		now := b.clock.Nanos() // before the slot is free, because Clock may be user code
		if _, held := e.free(token); held {
			e.leave(now, 0, resilience.Ignored, false)
		}
	case e.state == Closed && token&duringRun != 0:
		e.age.Leave(b.clock.Nanos())
	}
}

// Wait waits until the breaker would admit a call. It is for work that should not begin
// earlier, such as the next message of a queue. It counts no rejection and takes no slot, so
// Acquire can still reject the work. If ctx ends, Wait returns its error.
func (b *Breaker) Wait(ctx context.Context) error {
	for ctx.Err() == nil && !b.admits() {
		b.clock.Wait(ctx, waitStep)
	}
	return resilience.ContextError(ctx)
}

// waitStep is the time between two looks of Wait at the breaker. It is the longest that Wait
// returns late, and a goroutine that wakes up every 10 ms costs little.
const waitStep = 10 * time.Millisecond

// admits reports whether a call would be admitted now.
func (b *Breaker) admits() bool {
	e := b.episode.Load()
	switch {
	case e.state == Closed || e.mode == MetricsOnly:
		return true
	case e.state == Open:
		return e.over(b.clock.Nanos())
	}
	if c := unpack(e.word.Load()); c.inFlight < c.left || e.final(c) {
		return true
	}
	now, end := b.lease()
	return e.expired(now, end)
}

// announceProbe announces the HALF_OPEN episode of the probe with that token. If the
// observer calls runtime.Goexit, the probe does not run and announceProbe frees its slot.
func (b *Breaker) announceProbe(token uint64) {
	returned := false
	defer func() {
		if !returned {
			b.cancel(token)
		}
	}()
	b.events.announce(b.cfg.Observer)
	returned = true
}

// probe takes a slot in HALF_OPEN. If all are taken, it frees those whose lease has
// ended.
func (b *Breaker) probe(e *episode) (token uint64, ok bool) {
	now := b.clock.Nanos()
	ms, end := b.leaseAt(now)
	if token, ok = e.take(now, end); ok {
		return token, true
	}
	if e.closing() {
		return e.base, true // calls need no slot any more
	}
	if n := e.expire(ms, end, b.lease); n > 0 {
		b.outages().late.Add(uint64(n))
		return e.take(now, end)
	}
	return 0, false
}

// lease returns the time and the end of a lease that is taken now, both in ms.
func (b *Breaker) lease() (now, end int64) { return b.leaseAt(b.clock.Nanos()) }

// leaseAt is lease at the time now, in ns. The end is rounded up.
func (b *Breaker) leaseAt(now int64) (_, end int64) {
	const ms = int64(time.Millisecond)
	if b.cfg.ProbeTimeout == Unbounded {
		return now / ms, never
	}
	return now / ms, min(never, (after(now, b.cfg.ProbeTimeout)-1)/ms+1)
}

// after returns the time d after now, or the latest time if that overflows.
func after(now int64, d time.Duration) int64 {
	return now + min(int64(d), math.MaxInt64-now)
}

// slowness returns the flags of the Slow rules for which a call that began at start
// was slow.
func (b *Breaker) slowness(start int64) (flags uint64) {
	took, flag := time.Duration(b.clock.Nanos()-start), uint64(slowFlag)
	for i := range b.rules {
		if r := &b.rules[i]; r.kind == slow {
			if took > r.slower {
				flags |= flag
			}
			flag <<= 1
		}
	}
	return flags
}

// settler is called when an operation has answered or ended after Run returned
// without an error. It is a type of its own to keep Settle out of the API.
type settler Breaker

func (s *settler) Settle(token uint64, err error) {
	b := (*Breaker)(s)
	if err == nil {
		b.record(context.Background(), token, resilience.Success, &noFailure)
	} else {
		_ = b.judge(context.Background(), token, err, true)
	}
}

// judge records a call that ended with err. It returns err, wrapped with its outcome if
// Classify decided that. It calls user code, methods of err and Classify, before anything
// changes. If that code panics, the call is a failure. The context of a late call may be gone.
func (b *Breaker) judge(ctx context.Context, token uint64, err error, late bool) (judged error) {
	o, f := resilience.Failure, failing{err: err}
	defer func() { b.record(ctx, token, o, &f) }()
	defer func() {
		// The text is made here, because other calls wait while record installs an episode.
		if e := b.episode.Load(); o == resilience.Failure && e.state == HalfOpen && e.admitted(token) {
			defer func() { f.because = because(err) }()
			f.timeout = e.book != nil && timedOut(ctx, err)
		}
	}()
	if late {
		o, judged = policykit.LateOutcome(err, b.cfg.Classify), err
	} else {
		o, judged = policykit.Classify(ctx, err, b.cfg.Classify)
	}
	if o == resilience.Failure {
		if r, ok := errors.AsType[retryAfterer](err); ok {
			f.wait = r.RetryAfter()
		}
	}
	return judged
}

// A failing is the failure of one call. It is never changed.
type failing struct {
	err     error
	wait    time.Duration         // RetryAfter of err
	timeout bool                  // if HALF_OPEN admitted the call: it timed out
	because *resilience.Rejection // made by because, if HALF_OPEN admitted the call
}

var noFailure failing // of a success

type retryAfterer interface {
	error
	RetryAfter() time.Duration
}

// timedOut reports whether a call that failed with err under ctx timed out, whether err
// shows that or only ctx.
func timedOut(ctx context.Context, err error) bool {
	return policykit.TimedOut(err) || errors.Is(err, context.DeadlineExceeded) ||
		ctx.Err() != nil && resilience.OutcomeOf(ctx, ctx.Err(), nil) == resilience.Failure
}

// because returns a rejection that has only the cause err and its text. It calls the methods
// of err, so that open does not have to.
func because(err error) *resilience.Rejection {
	r := &resilience.Rejection{Cause: err}
	r.KeepCauseText()
	return r
}

// record counts an outcome and, if the current episode admitted the call, applies it
// to the episode.
func (b *Breaker) record(ctx context.Context, token uint64, o resilience.Outcome, f *failing) {
	b.count.Add(int(o))
	e := b.episode.Load()
	if e.state == Closed && token&duringRun != 0 && e.admitted(token) {
		e.age.Leave(b.clock.Nanos())
	}
	switch {
	case !e.admitted(token) || e.mode == Disabled:
		// The call was admitted before the last transition, or must change nothing.
	case e.state == HalfOpen:
		b.recordProbe(ctx, e, token, o, f)
	case e.state == Open:
		// The call was admitted only because of MetricsOnly.
	case o == resilience.Success:
		e.succeed()
		if b.windows {
			b.recordSuccess(ctx, e, token)
		}
	case o == resilience.Failure:
		b.recordFailure(ctx, e, token, f)
	}
}

// recordSuccess counts a success for the rules that count successes. It can open the
// breaker: if the call was slow, if it is the call that makes AtLeast, or if successes
// have left the window since the last call.
func (b *Breaker) recordSuccess(ctx context.Context, e *episode, token uint64) {
	var now int64
	if b.timed {
		now = b.clock.Nanos()
	}
	for i := range e.book.tallies {
		t := &e.book.tallies[i]
		if t.kind == rate { // the common case, which never opens
			t.last.Succeed()
			continue
		}
		if m, holds := t.add(now, token, false, 0, 0); holds {
			b.trip(ctx, e, m, now, e.book.failureAfter(now-int64(m.span)), 0)
			return
		}
	}
}

func (b *Breaker) recordFailure(ctx context.Context, e *episode, token uint64, f *failing) {
	now := b.clock.Nanos()
	e.age.Renew(now)
	failures, span := e.fail(now)
	if b.timed {
		e.book.failed.Store(&failure{f.err, now})
	}
	for i := range e.book.tallies {
		if m, holds := e.book.tallies[i].add(now, token, true, failures, span); holds {
			b.trip(ctx, e, m, now, f.err, f.wait)
			return
		}
	}
}

// recordProbe records the result of a call that HALF_OPEN admitted.
func (b *Breaker) recordProbe(ctx context.Context, e *episode, token uint64, o resilience.Outcome, f *failing) {
	now := b.clock.Nanos() // before the credit moves, because Clock may be user code
	began := b.clock.At(now)
	ends, ok := e.free(token)
	if !ok {
		return // settled already, or another call took the slot after the lease ended
	}
	if o == resilience.Success && token&slowFlags != 0 {
		o = resilience.Failure // too slow to close
	}
	ms, latest := b.leaseAt(now)
	late := ends <= ms || ends > latest
	if late {
		o = resilience.Ignored // although no other call has needed the slot
		b.outages().late.Add(1)
	}
	c, m, ended := e.leave(now, token, o, f.timeout)
	if !late && (ended || !e.final(c)) { // not if another result ended the episode first
		b.outages().probes[o].Add(1)
	}
	if !ended {
		return
	}
	if c.left > 0 {
		if b.install(ctx, e, b.followAt(e, Closed, now, began), match{rule: CauseEnoughSuccesses}) {
			b.events.announce(b.cfg.Observer)
		}
		return
	}
	why := e.rejection.outage
	switch {
	case m.rule != "":
		why = b.outage(m, now)
	case c.won():
		why.silence, why.rounds = now, 0
	default:
		why.rounds++
	}
	if m.rule == "" {
		m = match{rule: CauseProbeFailed, hits: c.failures}
	}
	m.err, m.because = f.err, f.because
	b.open(ctx, e, b.followAt(e, Open, now, began), &why, f.wait, m)
}
