package limit

import (
	"context"
	"sync/atomic"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/observe"
)

// rejections are the errors that all get whom a limit refuses for one reason.
type rejections struct {
	full, late atomic.Pointer[resilience.Rejection]
}

// rejection returns the one error for a reason. It is made for the first of them, since
// most limits never refuse anybody; whoever loses the exchange takes that of the winner.
func (l *Limit) rejection(made *atomic.Pointer[resilience.Rejection], detail string) error {
	if made.Load() == nil {
		made.CompareAndSwap(nil, &resilience.Rejection{
			Policy: policy, Name: l.cfg.Name, Key: l.key, Reason: resilience.Limited, Detail: detail,
		})
	}
	return made.Load()
}

// A teller keeps what is to be told until somebody does: one goroutine at a time, in
// order. The mutex of the Limit guards it.
type teller struct {
	overload bool // as it was last
	queue    []change
	busy     bool // somebody tells
}

type change struct {
	overload bool
	at       int64
}

// states are those of events.
var states = map[bool]string{false: "NORMAL", true: "OVERLOAD"}

// note notes whether there is overload, and reports whether the caller is to tell.
func (l *Limit) note(overload bool) bool {
	t := &l.told
	if t.overload != overload {
		t.overload = overload
		if overload {
			l.overloads.Add(1)
		}
		if l.cfg.Observer != nil {
			t.queue = append(t.queue, change{overload, l.now})
		}
	}
	if len(t.queue) == 0 || t.busy {
		return false
	}
	t.busy = true
	return true
}

// tell tells the observer what there is to tell. It may do anything: use the limit,
// panic, or end the goroutine; what comes next tells the rest then.
func (l *Limit) tell(ctx context.Context) {
	done := false
	defer func() {
		if !done {
			l.mu.Lock()
			l.told.busy = false
			l.mu.Unlock()
		}
	}()
	for {
		c, more := l.untold()
		if !more {
			done = true
			return
		}
		observe.Call(ctx, l.cfg.Observer, resilience.Event{
			Kind: resilience.Transition, Time: l.clock.At(c.at), Policy: policy, Name: l.cfg.Name, Key: l.key,
			From: states[!c.overload], To: states[c.overload],
		})
	}
}

// untold takes the next change that is to be told. If there is none the caller is done.
func (l *Limit) untold() (c change, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.told
	if len(t.queue) == 0 {
		t.busy, t.queue = false, nil
		return c, false
	}
	c, t.queue = t.queue[0], t.queue[1:]
	return c, true
}
