// Package retry tries failed operations again, as long as that helps.
//
//	r, err := retry.New(retry.Config{Name: "users"})
//	user, err := resilience.Do(ctx, r, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// Retries are the load that a system in trouble needs least. So they are paid for
// out of a budget that successes fill, and there are none while everything fails.
package retry

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "retry"

// Retry tries failed operations again.
//
// After a failed attempt it waits, by default a random time up to a bound that
// doubles with each attempt, and tries again, unless one of these holds:
//
//   - the error is not one to retry (see Config.Retryable);
//   - the attempts are used up, or the call is itself a retry of somebody upstream
//     (resilience.Attempt of its context is 2 or more);
//   - the wait would not be over before the deadline of the context, or the error
//     asks for a longer one than Config.MaxDelay;
//   - the last three attempts of all calls, or Config.MaxAttempts if that is more,
//     failed: then nobody is helped;
//   - the budget is empty.
//
// The budget counts in units, each one success at the first attempt. A retry
// costs 5, and 20 if the attempt before it timed out, since that cost the
// dependency real work. A retry that succeeds, or is refused by a policy further
// in, gets its price back. The bucket starts with Config.Budget units and holds
// the successes of about one second, but at least as much as it starts with.
//
// The error is that of the last attempt that ran, in an *Error that says why
// there was no further one. An error that is not one to retry comes back as it is
// if it came at the first attempt.
//
// A Retry is safe for concurrent use. Calls share its budget and nothing else.
type Retry struct {
	*shared
	bucket bucket
	// streak counts failed attempts, of all calls, since the last success.
	streak atomic.Int64
	fork   bool
	key    string        // what a fork is for in a keyed.Group
	first  atomic.Uint64 // calls of a fork that succeeded at the first attempt
}

// shared is what a retry and its forks have in common.
type shared struct {
	count counters.Set // first, for its alignment
	cfg   Config
	clock vclock.Clock

	stopped [len(reasons)]atomic.Uint64 // calls that failed, by the reason

	spent, refunded atomic.Int64 // units
	turns           atomic.Int64 // how often a bucket became short
}

// The counters of calls that succeeded, and of retries. Each success at the first
// attempt is a unit for the budget of its own fork; the root has none but that of
// the counter.
const (
	rootFirstTry = iota
	forkFirstTry
	recovered // after a retry
	retries   // attempts after the first
)

// New returns a Retry, or an error that says what to change in c.
func New(c Config) (*Retry, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{cfg: c, clock: vclock.New(c.Clock)}
	return &Retry{shared: s, bucket: newBucket(c.Budget, 0)}, nil
}

// Apply implements resilience.Policy.
func (r *Retry) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	running, returned := true, false
	defer func() {
		if returned {
			return
		}
		r.stopped[aborted].Add(1)
		if running {
			r.streak.Add(1) // an attempt that does not return has failed
		}
	}()
	err := next.Run(ctx)
	running = false
	if err == nil {
		if r.fork {
			r.count.Add(forkFirstTry)
			r.first.Add(1)
		} else {
			r.count.Add(rootFirstTry)
		}
		r.endStreak()
	} else {
		err = r.again(ctx, next, err, &running)
	}
	returned = true
	return err
}

// again goes on with a call whose first attempt ended with err. running is whether
// an attempt runs.
func (r *Retry) again(ctx context.Context, next resilience.Next, err error, running *bool) error {
	end := Error{Name: r.cfg.Name, Attempts: 1}
	for end.add(err); ; end.add(err) {
		r.tally(ctx, err)
		delay, reason := r.decide(ctx, end.Attempts, err)
		cost := price(err)
		if reason == 0 {
			reason = r.pay(cost)
		}
		if reason != 0 {
			return r.stop(ctx, end, reason)
		}
		if !r.pause(ctx, next, end.Attempts+1, delay, err, cost) {
			return r.stop(ctx, end, contextDone)
		}
		r.count.Add(retries)
		end.Attempts++
		*running = true
		err = next.Run(resilience.WithAttempt(ctx, end.Attempts))
		*running = false
		if err == nil {
			r.refund(cost)
			r.count.Add(recovered)
			r.endStreak()
			return nil
		}
		if errors.Is(err, resilience.ErrRejected) {
			r.refund(cost)
		}
	}
}

// pause gives up the result of the attempt that ended with err and waits before
// attempt number n. It reports whether to make that one; if not, also because code
// of the user panicked, the price comes back.
func (r *Retry) pause(ctx context.Context, next resilience.Next, n int, delay time.Duration, err error, cost int64) (ready bool) {
	defer func() {
		if !ready {
			r.refund(cost)
		}
	}()
	next.Discard()
	if r.cfg.Observer != nil {
		policykit.Observe(ctx, r.cfg.Observer, resilience.Event{
			Kind: EventRetrying, Level: slog.LevelDebug, Time: r.clock.Now(), Policy: policy, Name: r.cfg.Name, Key: r.key,
			Attempt: n, Delay: delay, Err: err,
		})
	}
	ready = r.clock.Wait(ctx, delay)
	return ready
}

// tally counts a failed attempt for the streak.
func (r *Retry) tally(ctx context.Context, err error) {
	outcome := resilience.Failure // also if a method of the error panics
	defer func() {
		switch outcome {
		case resilience.Failure:
			r.streak.Add(1)
		case resilience.Success:
			r.endStreak() // the dependency works; what it says is no to this call
		}
	}()
	outcome = resilience.OutcomeOf(ctx, err, nil)
}

// endStreak ends the streak. A failure between the load and the store counts as
// having come before the success.
func (r *Retry) endStreak() {
	if r.streak.Load() != 0 {
		r.streak.Store(0)
	}
}

// decide returns how long to wait after attempt number n, which ended with err, or
// why there is no further attempt.
func (r *Retry) decide(ctx context.Context, n int, err error) (time.Duration, reason) {
	refused := errors.Is(err, resilience.ErrRejected)
	switch {
	case ctx.Err() != nil:
		return 0, contextDone
	case !r.retryable(err, refused):
		if refused {
			return 0, rejected
		}
		return 0, notRetryable
	case n >= r.cfg.MaxAttempts:
		return 0, outOfAttempts
	case resilience.Attempt(ctx) >= 2:
		return 0, inherited
	}
	delay := min(max(0, r.cfg.Backoff(n)), r.cfg.MaxDelay)
	if after := r.retryAfter(err); after > 0 {
		if after > r.cfg.MaxDelay {
			return 0, waitTooLong
		}
		// What the error asks for is the least; the rest keeps callers apart.
		delay = after + min(delay, r.cfg.MaxDelay-after)
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return 0, pastDeadline
	}
	return delay, 0
}

// retryable reports whether an attempt that ended with err is one to follow by
// another.
func (r *Retry) retryable(err error, refused bool) bool {
	if _, ok := errors.AsType[*permanent](err); ok {
		return false
	}
	if r.cfg.Retryable != nil {
		return r.cfg.Retryable(err)
	}
	if refused {
		return false
	}
	if e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err); ok {
		return e.Retryable()
	}
	if e, ok := errors.AsType[interface {
		error
		Outcome() resilience.Outcome
	}](err); ok {
		return e.Outcome() == resilience.Failure
	}
	return true
}

// retryAfter returns how long err asks to wait: what it says itself, or the time
// until the policy that refused the attempt admits one.
func (r *Retry) retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return e.RetryAfter()
	}
	if e, ok := errors.AsType[*resilience.Rejection](err); ok && !e.RetryAt.IsZero() {
		return e.RetryAt.Sub(r.clock.Now())
	}
	return 0
}

// stop ends a call that did not succeed. It counts it last: if code of the user
// panics, the call is counted as aborted instead.
func (r *Retry) stop(ctx context.Context, end Error, why reason) error {
	err := r.finish(ctx, end, why)
	r.stopped[why].Add(1)
	return err
}

// finish returns the error of a call that is given up.
func (r *Retry) finish(ctx context.Context, end Error, why reason) error {
	if end.Attempts == 1 && (why == notRetryable || why == rejected) {
		return end.Err
	}
	if why == contextDone {
		if end.Attempts == 1 && end.Err != nil && errors.Is(end.Err, context.Cause(ctx)) {
			return end.Err
		}
		end.done = resilience.ContextError(ctx)
	}
	end.Reason = reasons[why]
	if r.cfg.Observer != nil {
		policykit.Observe(ctx, r.cfg.Observer, resilience.Event{
			Kind: EventGaveUp, Time: r.clock.Now(), Policy: policy, Name: r.cfg.Name, Key: r.key,
			Attempt: end.Attempts, Reason: reasons[why], Err: end.Err,
		})
	}
	return &end
}

// Name returns the name from the Config.
func (r *Retry) Name() string { return r.cfg.Name }

// Fork implements resilience.Forker: the fork has a budget of its own and shares
// the configuration and the counters of r.
func (r *Retry) Fork(key string) resilience.Policy {
	return &Retry{shared: r.shared, bucket: newBucket(r.cfg.Budget, r.clock.Nanos()), fork: true, key: key}
}
