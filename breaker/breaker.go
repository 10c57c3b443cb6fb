// Package breaker has a circuit breaker: it stops calls to a dependency that does
// not answer, and finds out by itself when it answers again.
//
//	b, err := breaker.New(breaker.Config{Name: "users"})
//	user, err := resilience.Do(ctx, b, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// The zero Config opens after a silence: seven calls in a row that failed, over at
// least a second. It stays open for a thirty-second of the silence, so that few
// calls reach a dependency that is down and its recovery is noticed soon, and
// closes through a slow start.
package breaker

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/stripe"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "breaker"

// ErrOpen matches, with errors.Is, every rejection by a breaker. The error itself
// is a *resilience.Rejection with the name of the breaker, the time at which it
// will admit a call, and the failure that opened it.
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
	count   stripe.Counters // first, for its alignment
	cfg     Config
	clock   vclock.Clock
	entered [3]atomic.Uint64 // transitions, by the State that they led to
	leaked  atomic.Uint64
}

// rejected is the counter of rejections. Those of the outcomes, which come before
// it, have the numbers of the outcomes.
const rejected = int(resilience.Ignored) + 1

// New returns a closed Breaker, or an error that says what to change in c.
func New(c Config) (*Breaker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return fork(&shared{cfg: c, clock: vclock.New(c.Clock)}, ""), nil
}

func fork(s *shared, key string) *Breaker {
	b := &Breaker{shared: s, key: key}
	e := &episode{since: s.clock.Nanos()}
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
	err = resilience.ErrAborted
	defer func() {
		if err != nil {
			b.judge(ctx, token, err, false)
		} else {
			next.Settle(b.cfg.Judge, nil, (*settler)(b), token)
		}
	}()
	err = next.Run(ctx)
	return err
}

// admit returns a token for a call that found the breaker not closed.
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
			if !b.install(ctx, e, half, "open time is over", 0, nil) {
				continue // somebody else is the probe
			}
			b.announceProbe(half, token)
			return token, nil
		}
		b.count.Add(rejected)
		return 0, e.rejection
	}
}

// announceProbe announces that e has begun. If the observer calls runtime.Goexit
// the call that was to be the probe does not run, and its place is free.
func (b *Breaker) announceProbe(e *episode, token uint64) {
	exited := true
	defer func() {
		if exited && e.free(token) {
			e.leave(resilience.Ignored)
		}
	}()
	b.announce()
	exited = false
}

// over reports whether the time of an OPEN episode is over. It is over, too, for
// a clock that was set back to before its beginning.
func (e *episode) over(now int64) bool { return now >= e.until || now < e.since }

// probe takes a place in HALF_OPEN, if need be one whose lease has ended.
func (b *Breaker) probe(e *episode) (token uint64, ok bool) {
	_, end := b.lease()
	if token, ok = e.take(end); ok {
		return token, true
	}
	if n := e.expire(b.lease); n > 0 {
		b.leaked.Add(uint64(n))
		return e.take(end)
	}
	return 0, false
}

// lease returns the time and when a lease ends that is taken now, both in ms; the
// end is rounded up.
func (b *Breaker) lease() (now, end int64) {
	const ms = int64(time.Millisecond)
	now = b.clock.Nanos()
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
		b.record(context.Background(), token, resilience.Success, nil, 0)
	} else {
		b.judge(context.Background(), token, err, true)
	}
}

// judge records a call that ended with err. It asks code of the user, the error
// and Classify, before anything changes; if that panics, the call is a failure. Of
// a late one the context may be gone, and only the error can tell that its caller
// gave up.
func (b *Breaker) judge(ctx context.Context, token uint64, err error, late bool) {
	o, wait := resilience.Failure, time.Duration(0)
	defer func() { b.record(ctx, token, o, err, wait) }()
	if late && errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		o = resilience.Ignored
		return
	}
	o = resilience.OutcomeOf(ctx, err, b.cfg.Classify)
	if o == resilience.Failure {
		if r, ok := errors.AsType[retryAfterer](err); ok {
			wait = r.RetryAfter()
		}
	}
}

type retryAfterer interface {
	error
	RetryAfter() time.Duration
}

// record counts an outcome and lets it change the episode it belongs to.
func (b *Breaker) record(ctx context.Context, token uint64, o resilience.Outcome, err error, wait time.Duration) {
	b.count.Add(int(o))
	e := b.episode.Load()
	switch {
	case token>>32 != e.base>>32:
		// Admitted before the last transition.
	case e.state == HalfOpen:
		b.recordProbe(ctx, e, token, o, err, wait)
	case o == resilience.Success:
		e.succeed()
	case o == resilience.Failure:
		b.recordFailure(ctx, e, err, wait)
	}
}

func (b *Breaker) recordFailure(ctx context.Context, e *episode, err error, wait time.Duration) {
	now := b.clock.Nanos()
	run, span := e.fail(now)
	for _, r := range b.cfg.Trip {
		if run < r.failures || span < r.span.Microseconds() {
			continue
		}
		open := b.follow(e, Open, now)
		open.silence = now - span*1000
		open.limit = int64(b.cfg.MaxOpenFor)
		if b.cfg.OpenFor == 0 {
			// One probe for every 32 of the calls that failed.
			open.limit = min(open.limit, silenceShare*max(span*1000, int64(time.Second))/int64(run))
		}
		b.open(ctx, e, open, wait, r.String(), run, err)
		return
	}
}

// recordProbe records the result of a call that HALF_OPEN admitted.
func (b *Breaker) recordProbe(ctx context.Context, e *episode, token uint64, o resilience.Outcome, err error, wait time.Duration) {
	if !e.free(token) {
		return // settled before, or its lease has ended
	}
	c, ended := e.leave(o)
	if !ended {
		return
	}
	now := b.clock.Nanos()
	if c.left > 0 {
		if b.install(ctx, e, b.follow(e, Closed, now), "enough successes", 0, nil) {
			b.announce()
		}
		return
	}
	open := b.follow(e, Open, now)
	open.silence, open.limit, open.rounds = e.silence, e.limit, e.rounds+1
	if c.won {
		open.silence, open.rounds = now, 0
	}
	b.open(ctx, e, open, wait, "credit is used up", c.failures, err)
}

// open sets how long the OPEN episode lasts and installs it after e. wait is what
// the last failure asked for.
func (b *Breaker) open(ctx context.Context, e, open *episode, wait time.Duration, rule string, failures int, err error) {
	var d int64
	if b.cfg.OpenFor > 0 {
		d = int64(b.cfg.OpenFor)
		for range open.rounds {
			if d > int64(b.cfg.MaxOpenFor)/2 {
				d = int64(b.cfg.MaxOpenFor)
				break
			}
			d *= 2
		}
	} else {
		d = max(int64(minOpenFor), min((open.since-open.silence)/silenceShare, open.limit))
		d += d/5 - rand.Int64N(2*d/5+1)
	}
	open.until = after(open.since, max(time.Duration(d), min(wait, maxRetryAfter)))
	open.rejection = &resilience.Rejection{
		Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: resilience.Open, RetryAt: b.clock.At(open.until), Cause: err,
	}
	if b.install(ctx, e, open, rule, failures, err) {
		b.announce()
	}
}

// halfOpen returns the HALF_OPEN episode after e, in which the caller has the
// only place, and the caller's token.
func (b *Breaker) halfOpen(e *episode, now int64) (*episode, uint64) {
	h := b.follow(e, HalfOpen, now)
	h.silence, h.limit, h.rounds, h.rejection = e.silence, e.limit, e.rounds, e.rejection
	h.leases = make([]lease, b.cfg.CloseAfter)
	h.word.Store(credit{left: 1, inFlight: 1}.pack())
	_, end := b.lease()
	return h, h.claim(end)
}

// follow returns an episode of state s that comes after e.
func (b *Breaker) follow(e *episode, s State, now int64) *episode {
	return &episode{state: s, base: (e.base>>32 + 1) << 32, since: now}
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
// and shares the configuration and the counters of b.
func (b *Breaker) Fork() resilience.Policy { return b.ForkFor("") }

// ForkFor is Fork for a key that errors and events are to say.
func (b *Breaker) ForkFor(key string) resilience.Policy { return fork(b.shared, key) }

// idleAfter is how long a closed breaker that is on its way to opening is worth
// keeping: one whose dependency gets a call a second opens within it.
const idleAfter = 10 * time.Second

// Idle implements resilience.Forker. A breaker is idle unless it is OPEN with
// time left, has calls in flight in HALF_OPEN, or is CLOSED and has come, in the
// last ten seconds, more than half of the way to opening.
func (b *Breaker) Idle() bool {
	e := b.episode.Load()
	now := b.clock.Nanos()
	switch e.state {
	case Open:
		return e.over(now)
	case HalfOpen:
		return unpack(e.word.Load()).inFlight == 0
	default:
		run, start := e.run()
		for _, r := range b.cfg.Trip {
			if 2*run > r.failures && now-start*1000 < int64(idleAfter) {
				return false
			}
		}
		return true
	}
}
