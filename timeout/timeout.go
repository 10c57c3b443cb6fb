// Package timeout bounds how long an operation may take.
//
//	t, err := timeout.New(timeout.Config{Name: "users", Timeout: time.Second})
//	user, err := resilience.Do(ctx, t, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// The limit works through the context, as everything in Go does, and needs the
// operation to cooperate: one that does not watch its context is not abandoned, it
// is waited for, however long that takes. So nothing runs on behind the caller's
// back, no goroutine outlives a call, and what the operation holds it holds until
// it returns. A value that it returns late is returned to the caller, and counted
// as late; an error that it returns late becomes an *Error.
package timeout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Config says how a Timeout works. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// Timeout is how long an operation may take, by default 10 s; a negative value
	// sets no limit. Less than a microsecond is taken for a unit that is missing,
	// unless there is a Clock.
	Timeout time.Duration
	// Until is the moment that the limit is for, by default resilience.Ended.
	// With resilience.Answered it covers an HTTP response up to its headers, so
	// that a long download works; the context then lives on until the end, but
	// has no deadline.
	Until resilience.Moment
	// Observer hears of each operation that was cut off. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. With a Clock the context has
	// no deadline, since a deadline is real time.
	Clock clock.Clock
}

// Timeout bounds the time of operations. The context that it hands on is done
// when the time is over, with an *Error as its cause. An operation that returns a
// value after that has its value returned, and counted as late; only its error
// becomes an *Error. If the caller's own context ends first, its error is
// returned.
//
// A Timeout is safe for concurrent use.
type Timeout struct {
	cfg      Config
	clock    vclock.Clock
	exceeded *Error
	calls    atomic.Uint64
	cutOff   atomic.Uint64
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
	switch c.Until {
	case 0:
		c.Until = resilience.Ended
	case resilience.Answered, resilience.Ended:
	default:
		return nil, fmt.Errorf("timeout %q: Config.Until is %d: must be resilience.Answered or resilience.Ended, or 0 for the default", c.Name, uint8(c.Until))
	}
	return &Timeout{
		cfg:      c,
		clock:    vclock.New(c.Clock),
		exceeded: &Error{Name: c.Name, After: c.Timeout},
	}, nil
}

// Apply implements resilience.Policy. It returns an *Error, which matches
// ErrExceeded and context.DeadlineExceeded, if the operation failed and its time
// was over.
func (t *Timeout) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	t.calls.Add(1)
	if t.cfg.Timeout < 0 || t.clock.Real() && t.stricter(ctx) {
		return next.Run(ctx)
	}
	if next.Lasting() || !t.clock.Real() {
		return t.applyLasting(ctx, next)
	}
	return t.applyPlain(ctx, next)
}

// applyPlain is for operations that are over when they return, under real time.
func (t *Timeout) applyPlain(ctx context.Context, next resilience.Next) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.Timeout, t.exceeded)
	defer cancel()
	returned := false
	defer func() {
		if !returned && t.over(ctx, resilience.ErrAborted, true) {
			t.count(ctx, next, resilience.ErrAborted)
		}
	}()
	err := next.Run(ctx)
	returned = true
	if !t.over(ctx, err, true) {
		return err
	}
	t.count(ctx, next, err)
	if err == nil {
		return nil
	}
	return t.exceed(ctx, err)
}

// stricter reports whether the caller has less time than the limit gives, so that
// the limit could never be what ends the operation.
func (t *Timeout) stricter(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= t.cfg.Timeout
}

// applyLasting is for operations that may go on after Run, and for a Clock.
func (t *Timeout) applyLasting(ctx context.Context, next resilience.Next) (err error) {
	l := &limit{t: t, next: next}
	if t.clock.Real() && t.cfg.Until == resilience.Ended {
		l.ctx, l.cancel = context.WithTimeoutCause(ctx, t.cfg.Timeout, t.exceeded)
	} else {
		// A deadline cannot be taken back, and a Clock has none.
		limited, cancel := context.WithCancelCause(ctx)
		l.ctx, l.cancel = limited, func() { cancel(nil) }
		l.disarm = t.clock.AfterFunc(t.cfg.Timeout, func() { cancel(t.exceeded) })
	}
	err = resilience.ErrAborted
	defer func() {
		if err != nil {
			l.judge(err) // a failure at once, whatever goes on
		}
		if l.disarm != nil {
			next.Settle(t.cfg.Until, err, (*armed)(l), 0)
		}
		next.Settle(resilience.Ended, err, (*running)(l), 0)
	}()
	if err = next.Run(l.ctx); err != nil && l.over(err) {
		l.judge(err)
		err = t.exceed(l.ctx, err)
	}
	return err
}

// limit is the limit of one lasting operation.
type limit struct {
	t      *Timeout
	next   resilience.Next
	ctx    context.Context
	cancel context.CancelFunc
	disarm func() bool // stops the timer, nil if the context has a deadline
	judged atomic.Bool // it failed, or came to its moment late
}

// over reports whether the limit is what ended the context.
func (l *limit) over(err error) bool { return l.t.over(l.ctx, err, l.disarm == nil) }

// judge counts the operation, once, if its time is over now that it has failed or
// come to its moment.
func (l *limit) judge(err error) {
	over := l.over(err)
	if (over || err != nil) && !l.judged.Swap(true) && over {
		l.t.count(l.ctx, l.next, err)
	}
}

// armed is a limit that hears when its time no longer counts.
type armed limit

func (a *armed) Settle(_ uint64, err error) {
	a.disarm()
	(*limit)(a).judge(err)
}

// running is a limit that hears of the end of its operation.
type running limit

func (r *running) Settle(_ uint64, err error) {
	defer r.cancel()
	// After an answer in time, a failure counts if the timer fired at the very
	// instant of the answer and so cut off the rest.
	if err != nil || r.disarm == nil {
		(*limit)(r).judge(err)
	}
}

// exceed returns the error of an operation that failed with err when its time was
// over.
func (t *Timeout) exceed(ctx context.Context, err error) error {
	if err == ctx.Err() || err == error(t.exceeded) { // an echo is the very value
		return t.exceeded
	}
	return &Error{Name: t.cfg.Name, After: t.cfg.Timeout, Err: err}
}

// over reports whether the limit is what ended ctx. An operation that reads the
// deadline and fails by itself when that is over, as a dialer does, may be quicker
// than the context; ours says that the deadline is that of the limit.
func (t *Timeout) over(ctx context.Context, err error, ours bool) bool {
	if ctx.Err() != nil {
		return context.Cause(ctx) == error(t.exceeded) // the very value
	}
	if err == nil || !ours {
		return false // without a look at the clock
	}
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= 0
}

// count counts an operation whose time was over.
func (t *Timeout) count(ctx context.Context, next resilience.Next, err error) {
	if err == nil {
		t.late.Add(1)
		return
	}
	t.cutOff.Add(1)
	if t.cfg.Observer != nil {
		policykit.Observe(ctx, t.cfg.Observer, resilience.Event{
			Kind: EventTimedOut, Time: t.clock.Now(), Policy: policy, Name: t.cfg.Name, Key: next.Key(), Delay: t.cfg.Timeout, Err: err,
		})
	}
}

// EventTimedOut is the kind of an event: an operation failed after Event.Delay, its
// timeout.
const EventTimedOut = "timed out"

// Name returns the name from the Config.
func (t *Timeout) Name() string { return t.cfg.Name }

// Fork implements resilience.Forker. A Timeout has no state, so the fork is t.
func (t *Timeout) Fork(string) resilience.Policy { return t }

// Idle implements resilience.Forker; it is always true.
func (t *Timeout) Idle() bool { return true }

// Stats is what a Timeout has counted since it was made.
type Stats struct {
	Calls    uint64 // operations that were started
	Exceeded uint64 // operations that failed with their time over
	Late     uint64 // operations that succeeded with their time over
}

// Stats returns the counters.
func (t *Timeout) Stats() Stats {
	return Stats{Exceeded: t.cutOff.Load(), Late: t.late.Load(), Calls: t.calls.Load()}
}

// ErrExceeded matches, with errors.Is, the error of an operation whose time was
// over. The error itself is an *Error.
var ErrExceeded = errors.New("resilience: timeout exceeded")

// Error is the error of an operation whose time was over. It matches ErrExceeded
// and context.DeadlineExceeded, and is a failure of the operation, not a
// rejection. A Timeout may return the same *Error to many callers: do not change
// it.
type Error struct {
	Name  string        // name of the Timeout, as configured
	After time.Duration // how long the operation had
	// Err is what the operation returned, nil if that only repeated that its
	// context was done.
	Err error
}

// Error says which limit was exceeded, and what the operation said.
func (e *Error) Error() string {
	s := "resilience: timeout"
	if e.Name != "" {
		s += fmt.Sprintf(" %q", e.Name)
	}
	s += fmt.Sprintf(" of %v exceeded", e.After)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is implements the matching that the type describes.
func (e *Error) Is(target error) bool {
	return target == ErrExceeded || target == context.DeadlineExceeded
}

// Unwrap returns what the operation returned.
func (e *Error) Unwrap() error { return e.Err }

// Timeout is true: it is what net.Error and url.Error ask for.
func (e *Error) Timeout() bool { return true }

// Outcome is a failure.
func (e *Error) Outcome() resilience.Outcome { return resilience.Failure }
