package breaker

import (
	"context"
	"math"
	"runtime"

	"github.com/resilience-go/resilience"
)

// Mode is how much of what a breaker decides is done. The zero value is Auto.
type Mode uint8

const (
	// Auto is a breaker at work.
	Auto Mode = iota
	// ForcedOpen rejects every call, for as long as it lasts, without a probe.
	ForcedOpen
	// Disabled admits every call and learns nothing from it.
	Disabled
	// MetricsOnly decides as Auto does, with events and counters, but admits the
	// calls that it would have rejected. Their results change nothing, as they
	// would not have been there.
	MetricsOnly
)

var modes = [...]string{"Auto", "ForcedOpen", "Disabled", "MetricsOnly"}

// String returns the name of the mode.
func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return "Mode(?)"
}

// Mode returns the mode that the breaker is in.
func (b *Breaker) Mode() Mode { return b.episode.Load().mode }

// SetMode sets the mode. It is a transition like any other: results of calls that
// were admitted before change nothing after it, and the observer hears of it if the
// state is another one now. ForcedOpen has the state OPEN and Disabled the state
// CLOSED; what was underneath goes on when they end: OPEN until its time is over,
// HALF_OPEN with its credit, and CLOSED, which counts anew. A value that is not a
// Mode counts as Auto.
//
// It acts on this breaker alone, and on forks that are made later. The breakers
// that a keyed.Group has already made are in its All.
func (b *Breaker) SetMode(m Mode) {
	if int(m) >= len(modes) {
		m = Auto
	}
	b.change(match{rule: setMode + "(" + m.String() + ")"}, func(e *episode) *episode {
		if e.mode == m {
			return nil
		}
		return b.in(e, m)
	})
}

// Reset closes the breaker and forgets all failures; its mode and the counters of
// Stats stay. In ForcedOpen and Disabled it resets what is underneath.
func (b *Breaker) Reset() {
	b.change(match{rule: reset}, func(e *episode) *episode {
		closed := b.follow(e, Closed, b.clock.Nanos())
		if e.under == nil {
			return closed
		}
		fresh := b.in(e, e.mode)
		fresh.under = closed
		return fresh
	})
}

// change installs what next makes of the present episode, unless that is nil. Who
// loses against another transition looks at what that one has left.
func (b *Breaker) change(why match, next func(*episode) *episode) {
	for {
		e := b.episode.Load()
		if e.state == HalfOpen && e.final(unpack(e.word.Load())) {
			runtime.Gosched() // the next episode is on its way, and is what to change
			continue
		}
		n := next(e)
		if n == nil {
			return
		}
		if b.install(context.Background(), e, n, why) {
			b.announce()
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
		forced.rejection = &resilience.Rejection{
			Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: resilience.Open, Detail: "forced open",
		}
		n = forced
	case Disabled:
		disabled := b.follow(e, Closed, now)
		disabled.under = n
		n = disabled
	}
	n.mode = m
	return n
}

// resumed returns the state that goes on with e, which is under another, at the time
// now. In OPEN whose time is over the next call is the probe.
func (e *episode) resumed(now int64) State {
	if e.state == Open && (now >= e.until || now < e.since) {
		return HalfOpen
	}
	return e.state
}

// resume returns an episode that comes after e and goes on with it, or with what is
// under it. It is a copy, because e leads to all that have come after it.
func (b *Breaker) resume(e *episode, now int64) *episode {
	from := e
	if e.under != nil {
		from = e.under
	}
	n := b.follow(e, from.state, now)
	n.outage, n.rejection = from.outage, from.rejection
	switch from.state {
	case Open:
		n.until = from.until
		if now < from.since {
			n.until = now // over, because the clock was set back
		}
	case HalfOpen:
		n.leases = make([]lease, b.cfg.CloseAfter)
		c := unpack(from.word.Load())
		// A result may just now have brought the credit to where it ends the
		// episode. It came after this change, and so must not count.
		c.inFlight, c.left = 0, min(max(1, c.left), b.cfg.CloseAfter)
		n.word.Store(c.pack())
	}
	return n
}
