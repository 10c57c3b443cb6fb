// Package retry runs failed operations again, as long as that helps.
//
//	r, err := retry.New(retry.Config{Name: "users"})
//	user, err := resilience.Do(ctx, r, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// Retries add load to a system that is already in trouble. So each retry is paid for from
// a budget that successes fill, and there are no retries while every attempt fails.
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
	"github.com/resilience-go/resilience/internal/window"
)

const policy = "retry"

// Retry runs failed operations again.
//
// After a failed attempt it waits and tries again. By default the wait is a random time up
// to a bound that doubles with each attempt. Retry gives up if one of these holds:
//
//   - The error is not retryable; see Config.Retryable.
//   - The call has made Config.MaxAttempts attempts.
//   - The call is itself a retry of an upstream caller: resilience.Attempt of its context
//     is 2 or more.
//   - The wait would end after the context's deadline, or the error asks for a longer
//     wait than Config.MaxDelay.
//   - The last max(3, Config.MaxAttempts) attempts failed, over all calls. A retry would
//     then probably fail too.
//   - The budget holds less than the retry costs.
//
// The budget counts units. A call that succeeds at its first attempt earns one. A retry
// costs 5 units. After an attempt that timed out it costs 20, because that attempt cost
// the dependency real work. If the retry succeeds, or an inner policy rejects it, its
// price is refunded. The budget starts with Config.Budget units. It can hold the successes
// of about one second, and at least Config.Budget.
//
// Apply returns an *Error with the error of the last attempt that ran and the reason why
// there was no further attempt. If the first attempt's error is not retryable, Apply
// returns that error unchanged.
//
// A Retry is safe for concurrent use. Calls share its budget and nothing else.
type Retry struct {
	*shared
	bucket bucket
	streak atomic.Int64 // failed attempts of all calls since the last success
	age    window.Age   // of the streak
	fork   bool
	key    string        // the fork's key in a keyed.Group
	first  atomic.Uint64 // a fork's calls that succeeded at the first attempt
}

// shared is the state that a retry and its forks have in common.
type shared struct {
	count counters.Set // the first field, so that it is aligned to a cache line
	cfg   Config
	clock vclock.Clock

	stopped [len(reasons)]atomic.Uint64 // the calls that failed, by reason

	spent, refunded atomic.Int64 // units
	turns           atomic.Int64 // how often a bucket became short
}

// The indexes in shared.count. A success at the first attempt of a fork earns a unit for
// that fork, so forks also count it in Retry.first; the root has only this counter.
const (
	rootFirstTry = iota
	forkFirstTry
	recovered // calls that succeeded after a retry
	retries   // attempts after the first ones
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
	streak := r.streak.Load()
	entered := streak != 0 // the age of the streak counts the call
	if entered {
		// An old streak ends before the call enters. Otherwise another call could enter and
		// fail between the two, and its failure would follow the old ones.
		now := r.clock.Nanos()
		if r.age.Old(now) {
			r.streak.CompareAndSwap(streak, 0)
		}
		r.age.Enter(now)
	}
	running, returned := true, false
	defer func() {
		if !returned {
			r.abort(running)
		}
		if entered {
			r.age.Leave(r.clock.Nanos())
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
		if !entered { // this call may begin a streak
			r.age.Enter(r.clock.Nanos())
			entered = true
		}
		err = r.runAgain(ctx, next, err, &running)
	}
	returned = true
	return err
}

// abort counts a call that ended in a panic or runtime.Goexit. An attempt that does not
// return counts as failed.
func (r *Retry) abort(running bool) {
	r.stopped[aborted].Add(1)
	if running {
		r.addFailure()
	}
}

// runAgain makes further attempts of a call whose first attempt ended with err. While an
// attempt runs, *running is true.
func (r *Retry) runAgain(ctx context.Context, next resilience.Next, err error, running *bool) error {
	end := Error{Name: r.cfg.Name, Attempts: 1}
	cost := int64(0) // of the last retry
	for end.add(err); ; end.add(err) {
		outcome := r.judge(ctx, err)
		may := r.retryable(err)
		if outcome == resilience.Success && !may && !isBusy(err) {
			r.countAnswer(end.Attempts, cost)
			return err
		}
		delay, reason := r.delay(ctx, end.Attempts, err, may)
		cost = price(err)
		if reason == 0 {
			reason = r.pay(cost)
		}
		if reason != 0 {
			return r.giveUp(ctx, end, reason)
		}
		if !r.wait(ctx, next, end.Attempts+1, delay, err, cost) {
			return r.giveUp(ctx, end, contextDone)
		}
		r.count.Add(retries)
		end.Attempts++
		*running = true
		err = next.Run(resilience.WithAttempt(ctx, end.Attempts))
		*running = false
		if err == nil {
			r.endStreak()
			r.countAnswer(end.Attempts, cost)
			return nil
		}
		if resilience.Rejected(err) {
			r.refund(cost)
			cost = 0 // refunded
		}
	}
}

// countAnswer counts a call that the dependency has answered at that attempt. cost is the
// price of the last retry, which is refunded.
func (r *Retry) countAnswer(attempt int, cost int64) {
	switch {
	case attempt > 1:
		r.refund(cost)
		r.count.Add(recovered)
	case r.fork:
		r.count.Add(forkFirstTry)
		r.first.Add(1)
	default:
		r.count.Add(rootFirstTry)
	}
}

// wait discards the result of the attempt that ended with err and waits for delay before
// attempt number n. It reports whether to make that attempt. If not, or if user code
// panics, wait refunds cost.
func (r *Retry) wait(ctx context.Context, next resilience.Next, n int, delay time.Duration, err error, cost int64) (ready bool) {
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

// judge updates the streak after an attempt that ended with err, and returns its outcome.
func (r *Retry) judge(ctx context.Context, err error) (outcome resilience.Outcome) {
	outcome = resilience.Failure // stays so if a method of err panics
	defer func() {
		switch outcome {
		case resilience.Failure:
			r.addFailure()
		case resilience.Success:
			if isBusy(err) {
				return // the dependency works, but not for this call
			}
			r.endStreak() // the error is an answer of a dependency that works
		}
	}()
	outcome = resilience.OutcomeOf(ctx, err, nil)
	return outcome
}

// addFailure adds an attempt that failed to the streak.
func (r *Retry) addFailure() {
	r.age.Renew(r.clock.Nanos())
	r.streak.Add(1)
}

// isBusy reports whether err is an answer of a dependency that sheds load. It earns no
// budget: otherwise the answers of an overload would pay for retries that add to it.
func isBusy(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Busy() bool
	}](err)
	return ok && e.Busy()
}

// endStreak ends the streak. A failure between the load and the store counts as if it
// came before the success.
func (r *Retry) endStreak() {
	if r.streak.Load() != 0 {
		r.streak.Store(0)
	}
}

// delay returns how long to wait after attempt number n, which ended with err, or why
// there is no further attempt. may is whether err may be retried.
func (r *Retry) delay(ctx context.Context, n int, err error, may bool) (time.Duration, reason) {
	switch {
	case ctx.Err() != nil:
		return 0, contextDone
	case !may && resilience.Rejected(err):
		return 0, rejected
	case !may:
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
		// The error's wait is the minimum; the backoff on top spreads callers in time.
		delay = after + min(delay, r.cfg.MaxDelay-after)
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return 0, pastDeadline
	}
	return delay, 0
}

// retryable reports whether err may be retried.
func (r *Retry) retryable(err error) bool {
	if _, ok := errors.AsType[*permanent](err); ok {
		return false
	}
	if r.cfg.Retryable != nil {
		return r.cfg.Retryable(err)
	}
	if resilience.Rejected(err) {
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

// retryAfter returns the wait that err asks for: the result of its RetryAfter method, or
// the time until the policy that rejected the attempt expects to admit one.
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

// giveUp ends a call that did not succeed and returns its error. It counts the call last:
// if user code panics, Apply counts it as aborted instead.
func (r *Retry) giveUp(ctx context.Context, end Error, why reason) error {
	err := r.wrapLast(ctx, end, why)
	r.stopped[why].Add(1)
	return err
}

// wrapLast returns the error of a call that is given up: an *Error, or the error of the
// only attempt unchanged.
func (r *Retry) wrapLast(ctx context.Context, end Error, why reason) error {
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

// Fork implements resilience.Forker. The fork has its own budget and shares the
// configuration and the counters of r.
func (r *Retry) Fork(key string) resilience.Policy {
	return &Retry{shared: r.shared, bucket: newBucket(r.cfg.Budget, r.clock.Nanos()), fork: true, key: key}
}
