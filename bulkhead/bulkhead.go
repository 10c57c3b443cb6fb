// Package bulkhead bounds how many calls to a dependency are in flight, so that a
// dependency that hangs cannot occupy all of its callers.
//
//	b, err := bulkhead.New(bulkhead.Config{Name: "users"})
//	user, err := resilience.Do(ctx, b, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
package bulkhead

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
	"golang.org/x/sync/semaphore"
)

const policy = "bulkhead"

// EventRejected is the kind of an event: the bulkhead rejected a call, for Event.Reason.
const EventRejected = "bulkhead rejected a call"

// capacity is how many tokens the semaphore has. The tokens above the number of slots are
// held back. It is far above maxSlots and above any number of calls that fit in memory.
const capacity = 1 << 40

// Full is the reason of a rejection by a bulkhead.
const Full = "full"

// ErrFull matches, with errors.Is, every rejection by a bulkhead. The error itself is a
// *resilience.Rejection.
var ErrFull error = &resilience.Rejection{Policy: policy, Reason: Full}

// Bulkhead bounds the calls in flight.
//
// A call takes a slot and holds it until the operation has ended: past a timeout, through
// the body of an HTTP response, through a stream. If there is no free slot, or other calls
// are queued, the call is queued, first in, first out, for at most Config.MaxWait. MaxWait
// bounds the time in the queue and not the operation. If the queue is full, the call is
// rejected at once.
//
// If Config.Slots is 0, the bulkhead sizes itself by Little's law: the average number of
// calls in flight is the number of calls that are admitted while one call runs. The
// bulkhead keeps a moving average of how many calls were admitted until each call
// answered. A call that fails counts as 0, and so does a timeout if two of three calls, or the last three, time out. To
// the average it adds the calls that have answered and go on, such as bodies and streams. The
// sum is capped at the calls in flight. The number of slots is three times the highest sum,
// which falls by half in 30 s, and at least 24. So calls that wait for a dependency that hangs
// do not raise it. A body that hangs looks like a stream: bound it by a timeout, or set
// Config.Slots.
//
// A burst may exceed these slots, up to 10 000, unless there is evidence that the dependency
// hangs. Calls are judged in the order of their admission, because a call that hangs ends long
// after the calls that were admitted with it. Evidence takes two things. Too few of the calls have
// answered: less than a third of the first 24, or less than a quarter of many. And three of them
// have timed out, or the slots have been exceeded for twice the time that calls usually take, at
// least 25 ms. The calls that are judged begin when three quarters had last answered, but at most
// two timeouts ago. Before the first success the usual time is unknown, so only timeouts are
// evidence. After a pause in which no call succeeded, the bulkhead waits for the next pauses of
// that length.
//
// If many calls time out and the others take nearly as long, the dependency may be overloaded.
// Then a congestion window bounds the calls in flight, as in TCP (RFC 5681), if a check shows that
// this helps. With the window, an overloaded dependency does nearly all that it can. The check
// costs a dependency that is slow without a queue some timeouts once in a while, with a quarter of
// the calls in flight.
//
// A Bulkhead is safe for concurrent use.
type Bulkhead struct {
	*shared
	counts
	key         string // the fork's key in a keyed.Group
	sem         *semaphore.Weighted
	wentOn      atomic.Uint64             // lasting operations that have answered
	load        atomic.Uint64             // see answer
	slots       atomic.Int64              // written under mu; never less than the slots that are taken
	queueFull   atomic.Pointer[rejection] // the error of calls that found the queue full
	tooLate     atomic.Pointer[rejection] // the error of calls that waited too long
	window      atomic.Int64              // of the congestion, in whole slots
	untimed     atomic.Int64              // a call is timed if its number has none of these bits
	beforePause atomic.Int64              // the number of the last call that was admitted before the end of a pause

	// mu guards moving tokens between the slots and the tokens held back, and the fields below.
	mu         sync.Mutex
	burst      burst
	congestion congestion
	changed    int64                        // when a congestion last began or ended
	forgot     int64                        // when high was last lowered
	rateFrom   struct{ admitted, at int64 } // when the rate of calls was last measured
}

// shared is the state that a bulkhead and its forks have in common.
type shared struct {
	cfg            Config
	clock          vclock.Clock
	root           *Bulkhead
	forksCompleted atomic.Uint64 // calls of all forks that had a slot and have ended

	rejectedFull, rejectedLate, canceled atomic.Uint64
}

// New returns a Bulkhead, or an error that says what to change in c.
func New(c Config) (*Bulkhead, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{
		cfg:   c,
		clock: vclock.New(c.Clock),
	}
	s.root = fork(s, "")
	return s.root, nil
}

func fork(s *shared, key string) *Bulkhead {
	b := &Bulkhead{shared: s, key: key, sem: semaphore.NewWeighted(capacity)}
	slots := int64(s.cfg.Slots)
	if slots == 0 {
		slots = minSlots
	}
	b.slots.Store(slots)
	b.sem.TryAcquire(capacity - slots)
	return b
}

// Apply implements resilience.Policy. If there is no slot, it returns a
// *resilience.Rejection that matches ErrFull. If ctx ends while the call is queued, it
// returns the error of ctx.
func (b *Bulkhead) Apply(ctx context.Context, next resilience.Next) (err error) {
	n, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	var t ticket
	err = resilience.ErrAborted
	if next.Lasting() { // inline, because this path is hot
		defer func() { next.Settle(resilience.Ended, err, (*ender)(b), departure(err)) }()
		defer func() { b.settleAnswer(ctx, next, t, err) }()
	} else {
		defer func() { b.release(ctx, t, err) }()
	}
	t = b.ticket(n) // the Clock may panic
	err = next.Run(ctx)
	return err
}

// Acquire takes a slot, and waits for it as Apply does. It returns the same errors: a
// *resilience.Rejection that matches ErrFull, or the error of ctx. With an error the Permit
// is nil. If ctx is already done, Acquire counts nothing.
//
// Stats counts a Permit as a call of Apply. It costs one allocation.
func (b *Bulkhead) Acquire(ctx context.Context) (*Permit, error) {
	n, err := b.acquire(ctx)
	if err != nil {
		return nil, err
	}
	p := &Permit{ctx: ctx}
	p.held.Store(b)
	returned := false
	defer func() { // the Clock may panic
		if !returned {
			p.Cancel()
		}
	}()
	p.ticket = b.ticket(n)
	returned = true
	return p, nil
}

// settleAnswer records when a lasting operation answers. A failed one has answered when it
// returns, even if a part of it goes on.
func (b *Bulkhead) settleAnswer(ctx context.Context, next resilience.Next, t ticket, err error) {
	switch {
	case b.cfg.Slots != 0:
	case err != nil:
		b.answer(t, resilience.OutcomeOf(ctx, err, nil), err, ctx.Err() != nil)
	default:
		next.Settle(resilience.Answered, nil, (*answerer)(b), uint64(t))
	}
}

// release ends a call that is over with err.
func (b *Bulkhead) release(ctx context.Context, t ticket, err error) {
	defer b.end(1) // also if a method of err panics
	if b.cfg.Slots == 0 {
		b.answer(t, resilience.OutcomeOf(ctx, err, nil), err, ctx.Err() != nil)
	}
}

// acquire takes a slot, and waits in the queue if there is none. It returns how many calls
// had been admitted then, including this one.
func (b *Bulkhead) acquire(ctx context.Context) (admitted int64, err error) {
	if ctx.Err() != nil {
		return 0, resilience.ContextError(ctx)
	}
	arrived := b.arrived.Add(1)
	if b.sem.TryAcquire(1) {
		return arrived, nil // the queue is empty then, so all arrived calls were admitted
	}
	may := false
	if b.cfg.Slots == 0 {
		var has bool
		if has, may = b.exceed(); has {
			return arrived, nil
		}
	}
	// Do not compare the length of the queue: a call that has been given a slot is still in
	// the queue until it wakes up. The number of calls that have not left has no such error,
	// so no call is rejected while a slot is free for it.
	slots := b.slots.Load()
	if !may && here(arrived, b.departed.Load()) > max(slots, b.capacity(slots)) {
		b.rejectedFull.Add(1)
		b.arrived.Add(-1)
		return 0, b.reject(ctx, &b.queueFull, "queue is full")
	}
	switch b.queue(ctx) {
	case nil:
		admitted, _, _ = b.look()
		return admitted, nil
	case &b.canceled:
		// The operation did not run, so not even a deadline is evidence about it.
		return 0, resilience.Ignore(resilience.ContextError(ctx))
	default:
		return 0, b.reject(ctx, &b.tooLate, "waited too long")
	}
}

// queue waits in the queue. It returns nil if it got a slot, and otherwise the counter of
// the calls that left the queue for the same reason. A call that leaves without a slot is
// never counted in flight.
func (b *Bulkhead) queue(ctx context.Context) (left *atomic.Uint64) {
	b.queued.Add(1)
	left = &b.canceled // stays so if ctx or the Clock panics
	got := false
	defer func() {
		if left != nil {
			left.Add(1)
			b.arrived.Add(-1)
			if got { // the slot came at the instant at which ctx ended
				b.sem.Release(1)
			}
		}
		b.queued.Add(-1)
	}()
	got = b.wait(ctx)
	switch {
	case got && ctx.Err() == nil:
		return nil
	case ctx.Err() != nil:
		return &b.canceled
	default:
		return &b.rejectedLate
	}
}

// wait waits for a slot and reports whether it got one. The semaphore serves calls first
// in, first out. If it hands a slot to a call whose context ends at that moment, it passes
// the slot on.
func (b *Bulkhead) wait(ctx context.Context) bool {
	if b.cfg.MaxWait > 0 {
		var cancel context.CancelFunc
		if b.clock.Real() {
			ctx, cancel = context.WithTimeout(ctx, b.cfg.MaxWait)
		} else {
			ctx, cancel = context.WithCancel(ctx)
			defer b.clock.AfterFunc(b.cfg.MaxWait, cancel)()
		}
		defer cancel()
	}
	return b.sem.Acquire(ctx, 1) == nil
}

// A rejection is an error for all calls that find the bulkhead in the same state.
type rejection struct {
	slots     int64
	congested bool
	err       resilience.Rejection
}

// reject calls the observer, after the call has left the queue, and returns the error.
func (b *Bulkhead) reject(ctx context.Context, made *atomic.Pointer[rejection], reason string) error {
	if b.cfg.Observer != nil {
		policykit.Observe(ctx, b.cfg.Observer, resilience.Event{
			Kind: EventRejected, Time: b.clock.Now(), Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: reason,
		})
	}
	slots, congested := b.slots.Load(), b.window.Load() > 0
	r := made.Load()
	if r == nil || r.slots != slots || r.congested != congested {
		r = &rejection{slots, congested, resilience.Rejection{
			Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: Full, Detail: reason + b.full(slots, congested),
		}}
		made.Store(r)
	}
	return &r.err
}

// full returns, as text, what is full and what would hold more.
func (b *Bulkhead) full(slots int64, congested bool) string {
	switch {
	case b.cfg.Slots != 0:
		return fmt.Sprintf(": %d in flight, as configured", slots)
	case congested:
		return fmt.Sprintf(": %d in flight, bounded because calls time out", slots)
	}
	return fmt.Sprintf(": %d in flight (sizes itself; set bulkhead.Config.Slots to hold more)", slots)
}

// capacity returns how many calls may be in flight or queued.
func (b *Bulkhead) capacity(slots int64) int64 {
	if b.cfg.Slots == 0 {
		_, high := unpack(b.load.Load())
		slots = min(slots, b.wanted(high))
	}
	return slots + b.maxQueue(slots)
}

// maxQueue returns how many calls may be queued while there are slots slots.
func (b *Bulkhead) maxQueue(slots int64) int64 {
	if q := int64(b.cfg.MaxQueue); q != 0 {
		return max(0, q)
	}
	return (slots + 1) / 2
}

// ender is a Bulkhead as the Settler of the end of lasting operations.
type ender Bulkhead

func (e *ender) Settle(add uint64, _ error) { (*Bulkhead)(e).end(add) }

// end counts a call as ended and then releases its slot: when the next call gets the slot,
// the count must no longer contain its last owner.
func (b *Bulkhead) end(add uint64) {
	if b != b.root {
		b.forksCompleted.Add(1)
	}
	b.departed.Add(add)
	if b.cfg.Slots != 0 || !b.shrink() {
		b.sem.Release(1)
	}
}

// Name returns the name from the Config.
func (b *Bulkhead) Name() string { return b.cfg.Name }

// Fork implements resilience.Forker. The fork has its own slots and sizes itself, and
// shares the configuration and the counters of b.
func (b *Bulkhead) Fork(key string) resilience.Policy { return fork(b.shared, key) }

// Idle reports whether a keyed.Group may drop the bulkhead: no call is in flight or queued.
func (b *Bulkhead) Idle() bool {
	departed := b.departed.Load() // read first, so that no call is seen departed and not arrived
	return here(b.arrived.Load(), departed) == 0
}
