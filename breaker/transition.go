package breaker

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/resilience-go/resilience"
)

// SetMode sets the mode. It is a transition like any other: results of calls admitted
// before it change nothing after it, and the observer is called if the state changes.
// The state of ForcedOpen is OPEN and the state of Disabled is CLOSED. When they end,
// the breaker resumes the state it had: OPEN until its time is over, and HALF_OPEN with its
// credit. No failures are counted then. A value that is not a Mode means Auto.
//
// SetMode acts on this breaker and on forks that are made later. The breakers that a
// keyed.Group has made already are in its All.
func (b *Breaker) SetMode(m Mode) {
	if int(m) >= len(modes) {
		m = Auto
	}
	b.change(match{rule: CauseSetMode}, func(e *episode) *episode {
		if e.mode == m {
			return nil
		}
		return b.in(e, m)
	})
}

// Reset closes the breaker and forgets all failures. Its mode and the counters of Stats
// stay. In ForcedOpen and Disabled, Reset closes the state that resumes after them.
func (b *Breaker) Reset() {
	b.change(match{rule: CauseReset}, func(e *episode) *episode {
		closed := b.follow(e, Closed, b.clock.Nanos())
		if e.under == nil {
			return closed
		}
		fresh := b.in(e, e.mode)
		fresh.under = closed
		return fresh
	})
}

// change installs the episode that next returns for the current one, unless it is nil.
// If another transition is first, change starts again with its episode.
func (b *Breaker) change(why match, next func(*episode) *episode) {
	for {
		e := b.episode.Load()
		if e.state == HalfOpen && e.final(unpack(e.word.Load())) {
			runtime.Gosched() // the next episode is being installed: change that one
			continue
		}
		n := next(e)
		if n == nil {
			return
		}
		if b.install(context.Background(), e, n, why) {
			b.events.announce(b.cfg.Observer)
			return
		}
	}
}

// in returns an episode that comes after e, in mode m.
func (b *Breaker) in(e *episode, m Mode) *episode {
	now := b.clock.Nanos()
	n := b.resume(e, now)
	switch m {
	case ForcedOpen:
		forced := b.follow(e, Open, now)
		forced.under, forced.until = n, math.MaxInt64
		forced.rejection = &rejection{Rejection: resilience.Rejection{
			Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: resilience.Open, Detail: "forced open",
		}}
		n = forced
	case Disabled:
		disabled := b.follow(e, Closed, now)
		disabled.under = n
		n = disabled
	}
	n.mode = m
	return n
}

// resume returns an episode that comes after e and resumes e, or the episode under it.
// It is a copy, because e links to all episodes after it.
func (b *Breaker) resume(e *episode, now int64) *episode {
	from := e
	if e.under != nil {
		from = e.under
	}
	n := b.follow(e, from.state, now)
	n.rejection = from.rejection
	switch from.state {
	case Open:
		n.until = from.until
		if now < from.since {
			n.until = now // over, because the clock was set back
		}
	case HalfOpen:
		n.half = b.newHalf()
		c := unpack(from.word.Load())
		// A result may have moved the credit to a final value since change looked. It
		// is newer than this change and must not count.
		n.word.Store(credit{left: min(max(1, c.left), b.cfg.CloseAfter), newest: c.newest}.pack())
	}
	return n
}

// trip opens a closed breaker because the rule of m holds.
func (b *Breaker) trip(ctx context.Context, e *episode, m match, now int64, err error, wait time.Duration) {
	why := b.outage(m, now)
	m.err = err
	defer func() { // even if a method of err calls runtime.Goexit
		b.open(ctx, e, b.follow(e, Open, now), &why, wait, m)
	}()
	m.because = because(err)
}

// outage returns the outage that begins at now because the rule of m holds.
func (b *Breaker) outage(m match, now int64) outage {
	why := outage{silence: now, limit: int64(b.cfg.MaxOpenFor)}
	if m.calls == 0 { // in a row
		why.silence -= int64(m.span)
	}
	if b.cfg.OpenFor == 0 {
		// The rule is a silence. OPEN rejects at most 32 calls per failure, at the rate at
		// which the failures came.
		span := max(int64(m.span), int64(time.Second))
		why.limit = min(why.limit, silenceShare*span/int64(m.hits))
	}
	return why
}

// open completes the OPEN episode and installs it after e. wait is the RetryAfter of
// the last failure.
func (b *Breaker) open(ctx context.Context, e, open *episode, why *outage, wait time.Duration, m match) {
	open.until = after(open.since, max(b.openFor(open.since, why), min(wait, maxRetryAfter)))
	r := m.rejection()
	r.Policy, r.Name, r.Key, r.Reason = policy, b.cfg.Name, b.key, resilience.Open
	r.RetryAt, r.Detail = open.ends(), m.String()
	open.rejection = &rejection{r, *why}
	if b.install(ctx, e, open, m) {
		b.events.announce(b.cfg.Observer)
	}
}

// openFor returns how long an OPEN that begins at now lasts.
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

// halfOpen returns the HALF_OPEN episode after e, in which the caller holds the only
// slot, and the caller's token.
func (b *Breaker) halfOpen(e *episode, now int64) (*episode, uint64) {
	h := b.follow(e, HalfOpen, now)
	rejection := *e.rejection
	rejection.RetryAt = time.Time{} // unknown
	rejection.Detail = "HALF_OPEN without a free slot, after " + rejection.Detail
	h.rejection, h.half = &rejection, b.newHalf()
	h.word.Store(credit{left: 1, inFlight: 1}.pack())
	h.age.Enter(now)
	_, end := b.lease()
	return h, h.claim(end)
}

// newHalf returns what a HALF_OPEN episode needs.
func (b *Breaker) newHalf() *half { return &half{leases: make([]lease, b.cfg.CloseAfter)} }

// follow returns an episode in state s that comes after e, in the same mode.
func (b *Breaker) follow(e *episode, s State, now int64) *episode {
	return b.followAt(e, s, now, b.clock.At(now))
}

// followAt is follow for a caller that must not read the clock. began is the wall time at now.
func (b *Breaker) followAt(e *episode, s State, now int64, began time.Time) *episode {
	next := &episode{state: s, mode: e.mode, base: e.base + generation, since: now, began: began, book: b.book}
	if s == Closed && b.windows {
		next.book = newBook(b.rules, now, &b.clock)
	}
	return next
}

// install makes next the current episode and reports whether it did. It does not if
// another goroutine has replaced e first. The caller announces next.
func (b *Breaker) install(ctx context.Context, e, next *episode, why match) bool {
	next.past = e.past
	if e.state != next.state {
		t := b.transition(e, next, why)
		next.past = e.past.remember(t)
		if b.cfg.Observer != nil {
			next.note = b.newNote(ctx, t, why.err)
		}
	}
	if b.cfg.Observer != nil {
		next.prev.Store(e)
		e.link()
	}
	if !b.episode.CompareAndSwap(e, next) {
		return false
	}
	if e.state == Open {
		if d := e.rest(next.since); d > 0 {
			b.outages().open.Add(d)
		}
	}
	if e.state != next.state {
		b.countTransition(e.state, next.state, why.rule)
	}
	next.link()
	return true
}

// transition returns the transition from e to next.
func (b *Breaker) transition(e, next *episode, why match) Transition {
	t := Transition{
		Time: next.began,
		From: e.state, To: next.state, Mode: next.mode,
		Rule: why.rule, Failures: why.hits, Calls: why.calls, Slow: why.slow,
		Error: why.text(),
	}
	if next.state == Open && next.mode != ForcedOpen {
		t.OpenFor = time.Duration(max(0, next.until-next.since))
	}
	return t
}

// newNote returns the event of a transition.
func (b *Breaker) newNote(ctx context.Context, t Transition, err error) *note {
	n := &note{ctx, t.event(b.cfg.Name, b.key)}
	n.event.Err = err
	if t.To == Open && t.Mode != MetricsOnly {
		n.event.Level = slog.LevelWarn
	}
	return n
}
