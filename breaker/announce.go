package breaker

import (
	"context"
	"time"

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
func (b *Breaker) install(ctx context.Context, e, next *episode, why match, err error) bool {
	if b.cfg.Observer != nil {
		next.note = b.newNote(ctx, e, next, why, err)
		next.prev.Store(e)
		e.link()
	}
	if !b.episode.CompareAndSwap(e, next) {
		return false // the winner announces its own
	}
	if e.state != next.state {
		b.count.Add(entered + int(next.state))
	}
	next.link()
	return true
}

// newNote returns what to announce of next, nil if the state stays as it was in e:
// then only the mode is another one, or the counts are.
func (b *Breaker) newNote(ctx context.Context, e, next *episode, why match, err error) *note {
	if e.state == next.state {
		return nil
	}
	n := &note{ctx, resilience.Event{
		Kind:     resilience.Transition,
		Time:     b.clock.At(next.since),
		Policy:   policy,
		Name:     b.cfg.Name,
		Key:      b.key,
		From:     e.state.String(),
		To:       next.state.String(),
		Reason:   why.rule,
		Failures: why.hits,
		Calls:    why.calls,
		Err:      err,
	}}
	if next.mode != Auto {
		n.event.Mode = next.mode.String()
	}
	if next.state == Open && next.mode != ForcedOpen {
		n.event.Delay = time.Duration(max(0, next.until-next.since))
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
