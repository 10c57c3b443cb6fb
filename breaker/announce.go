package breaker

import (
	"context"
	"log/slog"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/observe"
)

// note is what the observer hears of an episode.
type note struct {
	ctx   context.Context
	event resilience.Event
}

// install makes next the current episode, unless another goroutine has replaced
// e before. The caller announces it.
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
		return false // the winner announces its own
	}
	b.chargeRest(e, next.since)
	if e.state != next.state {
		b.countTransition(e.state, next.state, why.rule)
	}
	next.link()
	return true
}

// The kinds of events.
const (
	EventOpened     = "breaker opened"
	EventHalfOpened = "breaker half-open"
	EventClosed     = "breaker closed"
)

var events = [...]string{Closed: EventClosed, Open: EventOpened, HalfOpen: EventHalfOpened}

// newNote returns what to announce of a transition.
func (b *Breaker) newNote(ctx context.Context, t Transition, err error) *note {
	n := &note{ctx, resilience.Event{
		Kind:     events[t.To],
		Time:     t.Time,
		Policy:   policy,
		Name:     b.cfg.Name,
		Key:      b.key,
		From:     t.From.String(),
		To:       t.To.String(),
		Reason:   t.Rule,
		Failures: t.Failures,
		Calls:    t.Calls,
		Delay:    t.OpenFor,
		Err:      err,
	}}
	if t.To == Open && t.Mode != MetricsOnly {
		n.event.Level = slog.LevelWarn
	}
	if t.Mode != Auto {
		n.event.Mode = t.Mode.String()
	}
	return n
}

// link makes e reachable from the episode before it. Whoever installs an episode
// links it, and whoever follows it links it first in case the other has not come
// to that yet, so the chain from the last announced one never has a gap.
func (e *episode) link() {
	if p := e.prev.Load(); p != nil {
		p.next.Store(e)
		e.prev.Store(nil)
	}
}

// announce tells the observer, if there is one, of the transition that the caller
// has made, oldest first. Of several goroutines the one that takes pending from 0
// to 1 tells them all; what the others add meanwhile, the observer itself
// included, is added to its list.
func (b *Breaker) announce() {
	if b.cfg.Observer == nil || b.pending.Add(1) > 1 {
		return
	}
	b.announceAll()
}

func (b *Breaker) announceAll() {
	for b.announceOne() {
	}
}

func (b *Breaker) announceOne() (more bool) {
	b.told = b.told.next.Load()
	n := b.told.note
	b.told.note = nil // do not keep the context of a call
	returned := false
	defer func() {
		more = b.pending.Add(-1) > 0
		if !returned && more {
			b.announceAll() // the observer called runtime.Goexit: this goroutine will not loop
		}
	}()
	if n != nil {
		observe.Call(n.ctx, b.cfg.Observer, n.event)
	}
	returned = true
	return more
}
