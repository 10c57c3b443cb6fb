// Package timeout bounds how long an operation may take.
//
//	t, err := timeout.New(timeout.Config{Name: "users", Timeout: time.Second})
//	user, err := resilience.Do(ctx, t, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// The timeout cancels the context, so the operation must watch its context. Apply waits
// until the operation returns, however long that takes. So no goroutine outlives a call,
// and the operation holds its slots and connections until it returns. If the operation
// returns an error after the timeout, the caller gets an *Error. If it returns a value
// after the timeout, the caller gets the value, and the call is counted as late.
package timeout

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "timeout"

// Unbounded as Config.Timeout sets no timeout. No other negative number is valid.
const Unbounded time.Duration = -1

// EventTimedOut is the kind of an event: an operation failed after Event.Delay, its
// timeout.
const EventTimedOut = "timed out"

// Config configures a Timeout. The zero value is a good default.
type Config struct {
	// Name appears in errors, events and reports.
	Name string
	// Timeout is how long an operation may take, by default 10 s. Unbounded sets no
	// timeout. Without a Clock, a timeout below a microsecond is an error, because it can
	// only be a number without a unit.
	Timeout time.Duration
	// Until is the moment before which the timeout applies, by default resilience.Ended.
	// With resilience.Answered it applies to an HTTP response until its headers, so that a
	// long download works. The context then lives until the body has ended, and has only
	// the caller's deadline: a deadline of the Timeout could not be removed at the answer.
	Until resilience.Moment
	// Observer is called with each operation that failed after its timeout. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. With a Clock the context has only the
	// caller's deadline, because a deadline is real time.
	Clock clock.Clock
}

// Timeout bounds the time of operations. After the timeout, the operation's context is
// done, with a cause that matches ErrExceeded. If the operation then fails, Apply returns an
// *Error. If it succeeds, Apply returns nil, so that the caller gets the value, and counts
// the operation as late. If the caller's own context ends first, Apply returns the
// operation's error unchanged.
//
// A Timeout is safe for concurrent use.
type Timeout struct {
	cfg   Config
	clock vclock.Clock
	err   *Error // the error without an error of the operation, and the cause of contexts

	calls    atomic.Uint64
	exceeded atomic.Uint64
	late     atomic.Uint64
}

// New returns a Timeout, or an error that says what to change in c.
func New(c Config) (*Timeout, error) {
	if err := cmp.Or(
		policykit.CheckNegative(policy, c.Name, "Config.Timeout", c.Timeout, "timeout.Unbounded"),
		policykit.CheckDuration(policy, c.Name, "Config.Timeout", c.Timeout, c.Clock),
	); err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, policykit.DefaultTimeout)
	var err error
	if c.Until, err = policykit.Until(policy, c.Name, "Config.Until", c.Until, resilience.Ended); err != nil {
		return nil, err
	}
	return &Timeout{
		cfg:   c,
		clock: vclock.New(c.Clock),
		err:   &Error{Name: c.Name, After: c.Timeout, until: c.Until},
	}, nil
}

// Apply implements resilience.Policy. If the operation fails after the timeout, Apply
// returns an *Error, which matches ErrExceeded and context.DeadlineExceeded.
func (t *Timeout) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	t.calls.Add(1)
	if t.cfg.Timeout < 0 || t.clock.Real() && t.callerIsStricter(ctx) {
		return next.Run(ctx)
	}
	if next.Lasting() || !t.clock.Real() {
		return t.applyLasting(ctx, next)
	}
	return t.applyPlain(ctx, next)
}

// applyPlain applies the timeout in real time to an operation that is over when it returns.
func (t *Timeout) applyPlain(ctx context.Context, next resilience.Next) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.Timeout, t.err)
	defer cancel()
	returned := false
	defer func() {
		if !returned && t.expired(ctx, resilience.ErrAborted) {
			t.count(ctx, next, resilience.ErrAborted)
		}
	}()
	err := next.Run(ctx)
	returned = true
	if !t.expired(ctx, err) {
		return err
	}
	t.count(ctx, next, err)
	if answered(err) {
		return err
	}
	return t.wrapExpired(ctx, err)
}

// callerIsStricter reports whether the caller's deadline comes before the timeout, so that
// the timeout could never end the operation.
func (t *Timeout) callerIsStricter(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= t.cfg.Timeout
}

// applyLasting applies the timeout to an operation that may go on after Run has returned.
// It also applies it to every operation if there is a Clock.
func (t *Timeout) applyLasting(ctx context.Context, next resilience.Next) (err error) {
	g := &guard{t: t, next: next}
	guarded := context.Context((*guardContext)(g))
	if t.clock.Real() && t.cfg.Until == resilience.Ended {
		g.ctx, g.cancel = context.WithTimeoutCause(ctx, t.cfg.Timeout, t.err)
		guarded = g.ctx
	} else {
		// A timer instead of a deadline: a deadline cannot be removed at the answer, and a
		// Clock has none.
		canceled, cancel := context.WithCancelCause(ctx)
		g.ctx, g.cancel = canceled, func() { cancel(nil) }
		g.stopTimer = t.clock.AfterFunc(t.cfg.Timeout, func() { cancel((*ending)(g)) })
	}
	err = resilience.ErrAborted
	defer func() {
		if err != nil {
			g.judge(err) // at once, even if a part of the operation goes on
		}
		if g.stopTimer != nil {
			next.Settle(t.cfg.Until, err, (*timerStopper)(g), 0)
		}
		next.Settle(resilience.Ended, err, (*canceler)(g), 0)
	}()
	if err = next.Run(guarded); err != nil && g.expired(err) {
		g.judge(err)
		if !answered(err) {
			err = t.wrapExpired(g.ctx, err)
		}
	}
	return err
}

// guard is the timeout of one lasting operation.
type guard struct {
	t         *Timeout
	next      resilience.Next
	ctx       context.Context
	cancel    context.CancelFunc
	stopTimer func() bool // nil if the context has a deadline instead of a timer
	judged    atomic.Bool // judge has seen a failure or a late success
}

// expired reports whether the timeout ended the operation, which has returned err.
func (g *guard) expired(err error) bool {
	if g.stopTimer == nil {
		return g.t.expired(g.ctx, err)
	}
	return context.Cause(g.ctx) == error((*ending)(g))
}

// ending is a guard as the cause of its context after the timeout. Each call has a cause
// of its own: a caller can cancel a call with the cause of another, as errgroup does.
type ending guard

func (e *ending) Error() string { return e.t.err.Error() }
func (e *ending) Unwrap() error { return e.t.err }
func (e *ending) Timeout() bool { return true }

// Temporary is a method of net.Error.
func (e *ending) Temporary() bool { return true }

// Ended is the optional method that resilience.OutcomeOf calls. It reports whether ctx
// belongs to the operation that this timeout ended.
func (e *ending) Ended(ctx context.Context) bool {
	for {
		g, ok := ctx.Value(guardKey{}).(*guard)
		if !ok || g == (*guard)(e) {
			return ok
		}
		ctx = g.ctx
	}
}

type guardKey struct{}

// guardContext is a guard as the context of its operation: g.ctx with the guard as a value.
type guardContext guard

func (c *guardContext) Deadline() (time.Time, bool) { return c.ctx.Deadline() }
func (c *guardContext) Done() <-chan struct{}       { return c.ctx.Done() }
func (c *guardContext) Err() error                  { return c.ctx.Err() }

func (c *guardContext) Value(key any) any {
	if key == (guardKey{}) {
		return (*guard)(c)
	}
	return c.ctx.Value(key)
}

// judge counts the operation once, if it failed or reached its moment after the timeout.
func (g *guard) judge(err error) {
	expired := g.expired(err)
	if (expired || err != nil) && !g.judged.Swap(true) && expired {
		g.t.count(g.ctx, g.next, err)
	}
}

// timerStopper is a guard as the Settler of the moment after which the timeout no longer
// applies.
type timerStopper guard

func (s *timerStopper) Settle(_ uint64, err error) {
	s.stopTimer()
	(*guard)(s).judge(err)
}

// canceler is a guard as the Settler of the end of its operation.
type canceler guard

func (c *canceler) Settle(_ uint64, err error) {
	defer c.cancel()
	// A failure after an answer in time still counts if the timer fired at the instant of
	// the answer and so canceled the rest.
	if err != nil || c.stopTimer == nil {
		(*guard)(c).judge(err)
	}
}

// wrapExpired returns the *Error of an operation that failed with err after the timeout.
func (t *Timeout) wrapExpired(ctx context.Context, err error) error {
	if err == ctx.Err() || err == context.Cause(ctx) { // the operation only returned the context's error
		return t.err
	}
	e := &Error{Name: t.cfg.Name, After: t.cfg.Timeout, Err: err, until: t.cfg.Until}
	if outcome(err) == resilience.Ignored {
		e.notRun = true
		if errors.Is(err, context.Cause(ctx)) {
			e.Err = nil // only the context's error, in a queue
		}
	}
	return e
}

// outcome returns the outcome of err, whatever its context was.
func outcome(err error) resilience.Outcome {
	return resilience.OutcomeOf(context.Background(), err, nil)
}

// answered reports whether an operation that returned err has answered.
func answered(err error) bool { return outcome(err) == resilience.Success }

// expired reports whether the timeout, as the deadline of ctx, ended the operation, which
// has returned err. If the caller canceled ctx with the cause t.err, ctx.Err() is
// context.Canceled. An operation that reads the deadline and fails by itself at that time,
// as a dialer does, may fail before ctx is done.
func (t *Timeout) expired(ctx context.Context, err error) bool {
	if end := ctx.Err(); end != nil {
		return end == context.DeadlineExceeded && context.Cause(ctx) == error(t.err) // this very value, no other Timeout's
	}
	if err == nil {
		return false // without reading the clock
	}
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= 0
}

// count counts an operation that failed or succeeded after the timeout.
func (t *Timeout) count(ctx context.Context, next resilience.Next, err error) {
	if answered(err) {
		t.late.Add(1)
		return
	}
	t.exceeded.Add(1)
	if t.cfg.Observer != nil {
		policykit.Observe(ctx, t.cfg.Observer, resilience.Event{
			Kind: EventTimedOut, Time: t.clock.Now(), Policy: policy, Name: t.cfg.Name, Key: next.Key(), Delay: t.cfg.Timeout, Err: err,
		})
	}
}

// Name returns the name from the Config.
func (t *Timeout) Name() string { return t.cfg.Name }

// Fork implements resilience.Forker. A Timeout has no state, so Fork returns t.
func (t *Timeout) Fork(string) resilience.Policy { return t }

// Idle reports whether a keyed.Group may drop the fork. It is always true.
func (t *Timeout) Idle() bool { return true }
