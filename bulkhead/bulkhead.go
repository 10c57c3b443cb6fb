// Package bulkhead bounds how many calls to a dependency are in flight, so that
// one that hangs cannot tie up its callers.
//
//	b, err := bulkhead.New(bulkhead.Config{Name: "users"})
//	user, err := resilience.Do(ctx, b, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
package bulkhead

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
	"golang.org/x/sync/semaphore"
)

const policy = "bulkhead"

// Full is the reason of a rejection by a bulkhead.
const Full = "full"

// ErrFull matches, with errors.Is, every rejection by a bulkhead. The error itself
// is a *resilience.Rejection.
var ErrFull error = &resilience.Rejection{Policy: policy, Reason: Full}

// Bulkhead bounds the calls in flight.
//
// A call takes a slot and holds it until the operation has ended: past a time
// limit, through the body of an HTTP response, through a stream. If there is no
// slot, or others wait for one, it waits in line, first in, first out, for
// Config.MaxWait at most; the wait, not the run, is what is limited. If the line
// is full it is rejected at once.
//
// With a Limit of 0 the bulkhead sizes itself, by Little's law: on average there
// are as many calls in flight as are admitted while one of them runs. So it keeps
// a moving average of how many calls were admitted while each call ran until it
// answered, in which a call that did not succeed counts as 0. With each that did
// it adds those that have answered and go on, as bodies and streams do, and
// remembers the highest sum of late; the limit is three times that, at least 24.
// Calls that pile up before a dependency that hangs do not answer, and those that
// it still answers quickly have seen few others admitted, so neither raise it,
// while a service in good health gets all the room it asks for. The limit rises
// with the calls that answer and falls by one slot with each that ends, also while
// all are taken. A body that hangs looks like a stream: it is for a time limit to
// end it, or for Limit to bound.
//
// The price is a law, not a flaw of the rule: a process with more than about 100
// calls a second to a dependency that pauses for more than 200 ms must either reject
// or hold that many callers. If it should hold them, set Limit.
//
// A Bulkhead is safe for concurrent use.
type Bulkhead struct {
	*shared
	counts
	key    string // what it is for in a keyed.Group
	sem    *semaphore.Weighted
	wentOn atomic.Uint64                        // lasting operations that have answered
	load   atomic.Uint64                        // see answer
	limit  atomic.Int64                         // slots there are, written under mu; never less than are taken
	full   atomic.Pointer[resilience.Rejection] // of those for whom the queue was full
	late   atomic.Pointer[resilience.Rejection] // of those who waited too long
	mu     sync.Mutex                           // guards the moving of tokens between the limit and what is held back
}

// shared is what a bulkhead and its forks have in common.
type shared struct {
	cfg            Config
	clock          vclock.Clock
	root           *Bulkhead
	forksCompleted atomic.Uint64 // calls of all forks that had a slot and have ended

	queueFull, waitExpired, canceled atomic.Uint64
}

// capacity is that of the semaphore, whose tokens above the limit are held back.
const capacity = 1 << 40

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
	limit := int64(s.cfg.Slots)
	if limit == 0 {
		limit = minLimit
	}
	b.limit.Store(limit)
	b.sem.TryAcquire(capacity - limit)
	return b
}

// Apply implements resilience.Policy. It returns a *resilience.Rejection that
// matches ErrFull if there is no slot, and the error of ctx if that ends while the
// call waits.
func (b *Bulkhead) Apply(ctx context.Context, next resilience.Next) (err error) {
	n, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	if next.Lasting() { // not in a function of its own: it is on the hot path
		err = resilience.ErrAborted
		defer func() { next.Settle(resilience.Ended, err, (*slot)(b), ended(err)) }()
		defer func() { b.settle(next, n, err) }()
		err = next.Run(ctx)
		return err
	}
	err = resilience.ErrAborted
	defer func() { b.release(n, err) }()
	err = next.Run(ctx)
	return err
}

// settle has b hear when an operation answers. One that failed has done so,
// whatever of it goes on.
func (b *Bulkhead) settle(next resilience.Next, n int64, err error) {
	switch {
	case b.cfg.Slots != 0:
	case err != nil:
		b.answer(n, err)
	default:
		next.Settle(resilience.Answered, nil, (*answered)(b), uint64(n))
	}
}

// ended is what the end of a lasting operation adds to departed: one that failed
// when it ran is not among those that went on.
func ended(err error) uint64 {
	if err != nil {
		return 1
	}
	return lastingEnded
}

// release ends a call that is over with err.
func (b *Bulkhead) release(n int64, err error) {
	defer b.end(1) // whatever methods of err do
	if b.cfg.Slots == 0 {
		b.answer(n, err)
	}
}

// acquire takes a slot, waiting for it if it must, and returns how many had been
// admitted then, this one included.
func (b *Bulkhead) acquire(ctx context.Context) (admitted int64, err error) {
	if ctx.Err() != nil {
		return 0, resilience.ContextError(ctx)
	}
	came := b.come(1)
	if b.sem.TryAcquire(1) {
		return came, nil // nobody is in line then, so all who came were admitted
	}
	// Who has been given a slot and does not know it yet still waits, so the line
	// is not what to compare. Of all who came the place is one's own, and those who
	// departed meanwhile have made room: nobody is refused for a place that is free.
	limit := b.limit.Load()
	if here(came, b.departed.Load()) > limit+b.maxQueue(limit) {
		b.queueFull.Add(1)
		b.come(-1)
		return 0, b.refuse(ctx, &b.full, "queue is full")
	}
	switch b.queue(ctx) {
	case nil:
		admitted, _, _ = b.look()
		return admitted, nil
	case &b.canceled:
		return 0, resilience.ContextError(ctx)
	default:
		return 0, b.refuse(ctx, &b.late, "waited too long")
	}
}

// queue waits in line and returns the counter of those who left it without a slot
// for the same reason, nil if b gave one. Who leaves is never seen in flight, not
// for a moment.
func (b *Bulkhead) queue(ctx context.Context) (left *atomic.Uint64) {
	b.line(1)
	left = &b.canceled // should ctx or the Clock panic
	defer func() {
		if left != nil {
			left.Add(1)
			b.come(-1)
		}
		b.line(-1)
	}()
	switch {
	case b.wait(ctx):
		return nil
	case ctx.Err() != nil:
		return &b.canceled
	default:
		return &b.waitExpired
	}
}

// wait waits for a slot and reports whether it got one. The semaphore serves first
// in, first out, and passes on a slot that it hands to a waiter whose context ends
// at that moment.
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

// refuse tells the observer, once the caller has left, and returns the error.
func (b *Bulkhead) refuse(ctx context.Context, made *atomic.Pointer[resilience.Rejection], reason string) error {
	if b.cfg.Observer != nil {
		policykit.Observe(ctx, b.cfg.Observer, resilience.Event{
			Kind: EventRejected, Time: b.clock.Now(), Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: reason,
		})
	}
	return policykit.Reject(made, resilience.Rejection{
		Policy: policy, Name: b.cfg.Name, Key: b.key, Reason: Full, Detail: reason,
	})
}

// EventRejected is the kind of an event: the bulkhead rejected a call, for
// Event.Reason.
const EventRejected = "bulkhead rejected a call"

// maxQueue is how many may wait while there are limit slots.
func (b *Bulkhead) maxQueue(limit int64) int64 {
	if q := int64(b.cfg.MaxQueue); q != 0 {
		return max(0, q)
	}
	return (limit + 1) / 2
}

// slot is a Bulkhead that hears of the end of operations.
type slot Bulkhead

func (s *slot) Settle(add uint64, _ error) { (*Bulkhead)(s).end(add) }

// end counts a call as ended and gives its slot back. Whoever gets the slot must
// not find its last owner still here.
func (b *Bulkhead) end(add uint64) {
	b.depart(add)
	if b.cfg.Slots != 0 || !b.shrink() {
		b.sem.Release(1)
	}
}

// Name returns the name from the Config.
func (b *Bulkhead) Name() string { return b.cfg.Name }

// Fork implements resilience.Forker: the fork has slots and a limit of its own,
// and shares the configuration and the counters of b.
func (b *Bulkhead) Fork(key string) resilience.Policy { return fork(b.shared, key) }

// Idle implements resilience.Forker: no call is in flight or waits.
func (b *Bulkhead) Idle() bool {
	departed := b.departed.Load() // first, lest one who came be seen only to leave
	return here(b.came.Load(), departed) == 0
}
