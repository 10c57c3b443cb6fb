package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
)

// judge records a call that ended with err. It asks code of the user, the error
// and Classify, before anything changes; if that panics, the call is a failure. Of
// a late one the context may be gone, and only the error can tell that its caller
// gave up.
func (b *Breaker) judge(ctx context.Context, token uint64, err error, late bool) {
	o, f := resilience.Failure, failing{err: err}
	defer func() { b.record(ctx, token, o, &f) }()
	defer func() {
		// While the next episode is on its way nobody may wait for the text.
		if e := b.episode.Load(); o == resilience.Failure && e.state == HalfOpen && e.admitted(token) {
			f.text = causeText(err)
		}
	}()
	if late && errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		o = resilience.Ignored
		return
	}
	o = resilience.OutcomeOf(ctx, err, b.cfg.Classify)
	if o == resilience.Failure {
		if r, ok := errors.AsType[retryAfterer](err); ok {
			f.wait = r.RetryAfter()
		}
	}
}

// A failing is what a call failed with. Nobody changes it.
type failing struct {
	err  error
	wait time.Duration // that err asks for
	text string        // of err, if HALF_OPEN admitted the call
}

var nothing failing // what a success failed with

// causeText returns what a rejection with the cause err says of it. It asks err. It is
// a copy, since it is kept, and may be a short piece of a long answer.
func causeText(err error) string {
	return strings.Clone((&resilience.Rejection{Cause: err}).CauseText())
}

type retryAfterer interface {
	error
	RetryAfter() time.Duration
}

// record counts an outcome and lets it change the episode it belongs to.
func (b *Breaker) record(ctx context.Context, token uint64, o resilience.Outcome, f *failing) {
	b.count.Add(int(o))
	e := b.episode.Load()
	switch {
	case !e.admitted(token) || e.mode == Disabled:
		// Admitted before the last transition, or not to change anything.
	case e.state == HalfOpen:
		b.recordProbe(ctx, e, token, o, f)
	case e.state == Open:
		// Admitted only because of MetricsOnly.
	case o == resilience.Success:
		e.succeed()
		if b.windows {
			b.recordSuccess(ctx, e, token)
		}
	case o == resilience.Failure:
		b.recordFailure(ctx, e, token, f)
	}
}

// recordSuccess counts a success where successes are counted. It opens the breaker,
// too: if it is slow, or the call that makes the least number complete, or if
// better ones have left a window meanwhile.
func (b *Breaker) recordSuccess(ctx context.Context, e *episode, token uint64) {
	var now int64
	if b.timed {
		now = b.clock.Nanos()
	}
	for i := range e.book.tallies {
		t := &e.book.tallies[i]
		if t.kind == rate { // most calls come here, and none of them opens
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

// trip opens a closed breaker because of m.
func (b *Breaker) trip(ctx context.Context, e *episode, m match, now int64, err error, wait time.Duration) {
	why := &outage{silence: now, limit: int64(b.cfg.MaxOpenFor)}
	if m.calls == 0 {
		why.silence -= int64(m.span)
	}
	if b.cfg.OpenFor == 0 {
		// One probe for every 32 of the calls that failed.
		span := max(min(int64(m.span), now-e.since), int64(time.Second))
		why.limit = min(why.limit, silenceShare*span/int64(m.hits))
	}
	m.err = err
	defer func() { // also if err calls runtime.Goexit when it is asked for its text
		b.open(ctx, e, b.follow(e, Open, now), why, wait, m)
	}()
	m.text = causeText(err)
}

// recordProbe records the result of a call that HALF_OPEN admitted.
func (b *Breaker) recordProbe(ctx context.Context, e *episode, token uint64, o resilience.Outcome, f *failing) {
	now := b.clock.Nanos() // before the credit moves: a Clock is code of the user
	ends, ok := e.free(token)
	if !ok {
		return // settled before, or somebody else has the place since its lease ended
	}
	if o == resilience.Success && token&slowFlags != 0 {
		o = resilience.Failure // too slow to close
	}
	ms, latest := b.leaseAt(now)
	late := ends <= ms || ends > latest
	if late {
		o = resilience.Ignored // though nobody has asked for its place
		b.rarely().late.Add(1)
	}
	c, ended := e.leave(o)
	if !late && (ended || !e.final(c)) { // or another result has ended it before
		b.rarely().probes[o].Add(1)
	}
	if !ended {
		return
	}
	if c.left > 0 {
		if b.install(ctx, e, b.follow(e, Closed, now), match{rule: enoughSuccesses}) {
			b.announce()
		}
		return
	}
	why := *e.outage
	if why.rounds++; c.won {
		why.silence, why.rounds = now, 0
	}
	b.open(ctx, e, b.follow(e, Open, now), &why, f.wait, match{rule: creditUsedUp, hits: c.failures, err: f.err, text: f.text})
}

// open sets how long the OPEN episode lasts and installs it after e. wait is what
// the last failure asked for.
func (b *Breaker) open(ctx context.Context, e, open *episode, why *outage, wait time.Duration, m match) {
	open.outage = why
	open.until = after(open.since, max(b.openFor(open.since, why), min(wait, maxRetryAfter)))
	open.rejection = &resilience.Rejection{
		Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: resilience.Open,
		RetryAt: b.clock.At(open.until), Detail: m.String(), Cause: m.err,
	}
	if b.install(ctx, e, open, m) {
		b.announce()
	}
}

// openFor returns how long OPEN lasts that begins at the time now.
func (b *Breaker) openFor(now int64, why *outage) time.Duration {
	if b.cfg.OpenFor > 0 {
		d := b.cfg.OpenFor
		for range why.rounds {
			if d > b.cfg.MaxOpenFor/2 {
				return b.cfg.MaxOpenFor
			}
			d *= 2
		}
		return d
	}
	d := max(int64(minOpenFor), min((now-why.silence)/silenceShare, why.limit))
	return time.Duration(d + d/5 - rand.Int64N(2*d/5+1))
}

// halfOpen returns the HALF_OPEN episode after e, in which the caller has the
// only place, and the caller's token.
func (b *Breaker) halfOpen(e *episode, now int64) (*episode, uint64) {
	h := b.follow(e, HalfOpen, now)
	h.outage, h.rejection = e.outage, whileHalfOpen(e.rejection)
	h.leases = make([]lease, b.cfg.CloseAfter)
	h.word.Store(credit{left: 1, inFlight: 1}.pack())
	_, end := b.lease()
	return h, h.claim(end)
}

// whileHalfOpen returns what those get for whom there is no place. Nobody knows when
// there will be one.
func whileHalfOpen(r *resilience.Rejection) *resilience.Rejection {
	half := *r
	half.RetryAt = time.Time{}
	half.Detail = "HALF_OPEN without a free place, after " + r.Detail
	return &half
}

// follow returns an episode of state s that comes after e, in the same mode.
func (b *Breaker) follow(e *episode, s State, now int64) *episode {
	next := &episode{state: s, mode: e.mode, base: e.base + generation, since: now}
	if s == Closed {
		if next.book = b.book; b.windows {
			next.book = newBook(b.cfg.Trip, now, &b.clock)
		}
	}
	return next
}
