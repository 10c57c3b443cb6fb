package retry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/window"
)

const (
	// quickPrice is what a retry costs, in units of one success at the first attempt.
	// With independent errors, successes then pay for all retries up to a failure rate
	// of one third, and never for more than 1.45 attempts per call.
	quickPrice = 5
	// timeoutPrice is what a retry costs after an attempt that timed out, in units. It
	// is higher because the attempt cost the dependency real work.
	timeoutPrice = 20
	// savings is the time whose successes a bucket can hold. With a longer window, many
	// small clients could save up for a storm of retries.
	savings = time.Second
	// idleAfter is how long a fork is kept, after the last call that needed a retry,
	// while its bucket holds less than a new fork's. It is as long as a run of failures
	// is evidence.
	idleAfter = window.MaxAge
	// mostShort is how many forks are kept because their buckets hold less than a new
	// fork's. In the default stack they take about 2 MB.
	mostShort = 3000
)

// bucket holds the units that are left to pay for retries. It is brought up to date
// when an attempt fails, so that a success costs one counter and no clock.
type bucket struct {
	askedAt atomic.Int64 // when a call last needed a retry

	mu   sync.Mutex // guards the fields below; never held while user code runs
	turn int64      // the number in shared.turns when the bucket last became short
	fill fill
}

// fill is what a bucket holds.
type fill struct {
	level    int64
	capacity int64
	seen     uint64 // the successes that level contains
	mark     uint64 // the successes at markAt, from which the rate is measured
	markAt   int64
}

// newBucket returns a full bucket that is made at the time now.
func newBucket(units int, now int64) bucket {
	return bucket{fill: fill{level: int64(units), capacity: int64(units), markAt: now}}
}

// at returns b at the time now, with the successes since it was stored. successes counts
// all of them. The capacity is never below least.
//
// Only pay stores the result. The rate is measured between two stored marks, so if Idle or
// Budget stored it too, a look at the retry would change how much the bucket can hold.
func (b fill) at(least int, successes uint64, now int64) fill {
	if elapsed := now - b.markAt; elapsed >= int64(savings) {
		b.capacity = max(int64(least), int64(float64(successes-b.mark)*float64(savings)/float64(elapsed)))
		b.mark, b.markAt = successes, now
	} else if elapsed < 0 {
		b.mark, b.markAt = successes, now // the clock was set back
	}
	b.level += min(int64(successes-b.seen), b.capacity-b.level)
	b.seen = successes
	return b
}

// successes returns how many calls of r, without its forks, succeeded at the first
// attempt.
func (r *Retry) successes() uint64 {
	if r.fork {
		return r.first.Load()
	}
	return r.count.Sum(rootFirstTry)
}

// price returns what a retry costs after an attempt that ended with err.
func price(err error) int64 {
	if policykit.TimedOut(err) {
		return timeoutPrice
	}
	return quickPrice
}

// pay takes price out of the bucket and returns 0, or returns why there is no retry.
func (r *Retry) pay(price int64) reason {
	if r.cfg.Budget < 0 {
		return 0
	}
	b, now := &r.bucket, r.clock.Nanos() // read before the lock: a Clock is user code
	b.askedAt.Store(now)
	if r.streak.Load() >= int64(max(3, r.cfg.MaxAttempts)) {
		return allFailing
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill = b.fill.at(r.cfg.Budget, r.successes(), now)
	if b.fill.level < price {
		return outOfBudget
	}
	was := b.fill.level
	b.fill.level -= price
	if least := int64(r.cfg.Budget); was >= least && b.fill.level < least {
		b.turn = r.turns.Add(1)
	}
	r.spent.Add(price)
	return 0
}

// refund returns price to the bucket, as far as the bucket has space.
func (r *Retry) refund(price int64) {
	if r.cfg.Budget < 0 {
		return
	}
	b := &r.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	back := min(price, max(0, b.fill.capacity-b.fill.level))
	b.fill.level += back
	r.refunded.Add(back)
}

// Idle reports whether a keyed.Group may drop the fork. A fork is not idle while its
// bucket holds less than Config.Budget. A new fork starts with that many units, so a
// failing key would get free retries each time it comes back.
//
// Two rules bound the memory of such forks. A fork is idle ten seconds after its last call
// that needed a retry, or once 3000 later buckets have fallen below Config.Budget.
func (r *Retry) Idle() bool {
	if r.cfg.Budget < 0 {
		return true
	}
	b, now := &r.bucket, r.clock.Nanos()
	if quiet := now - b.askedAt.Load(); quiet < 0 || quiet >= int64(idleAfter) {
		return true // quiet is negative if the clock was set back
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.turns.Load()-b.turn >= mostShort {
		return true
	}
	return b.fill.at(r.cfg.Budget, r.successes(), now).level >= int64(r.cfg.Budget)
}

// Budget returns how many units the budget holds and how many it can hold at present, as
// Stats does. Both are 0 without a budget.
func (r *Retry) Budget() (level, capacity int64) {
	if r.cfg.Budget < 0 {
		return 0, 0
	}
	b, now := &r.bucket, r.clock.Nanos()
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.fill.at(r.cfg.Budget, r.successes(), now)
	return f.level, f.capacity
}
