package retry

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Prices in units, each one success at the first attempt. With independent
	// errors a bucket that is filled by successes pays for all retries up to a
	// failure rate of one third, and never for more than 1.45 attempts a call.
	quickPrice   = 5
	timeoutPrice = 20

	// window is the time whose successes a bucket holds. More would let many
	// small clients save up for a storm.
	window = time.Second

	// A fork whose bucket is short, of what a new fork starts with, is kept for
	// idleAfter since it was last asked for a retry, as long as a breaker on its way
	// to opening is, or until mostShort others have become short: no more of them are
	// kept at a time, which in the default stack is some 2 MB.
	idleAfter = 10 * time.Second
	mostShort = 3000
)

// bucket is what is left to pay retries with. It is brought up to date when an
// attempt fails, so that a success costs one counter and no clock.
type bucket struct {
	askedAt atomic.Int64 // when a retry was last asked for

	mu       sync.Mutex // guards all below; never held while code of the user runs
	level    int64
	capacity int64
	seen     uint64 // successes that are in level
	mark     uint64 // successes at the time markAt, from which their rate is measured
	markAt   int64
	turn     int64 // the number it got, of all, when it last became short
}

// newBucket returns a full bucket that is made at the time now.
func newBucket(units int, now int64) bucket {
	return bucket{level: int64(units), capacity: int64(units), markAt: now}
}

// fill adds the successes since the last time, of successes in all. The bucket can
// hold least units at least. The caller holds mu.
func (b *bucket) fill(least int, successes uint64, now int64) {
	if elapsed := now - b.markAt; elapsed >= int64(window) {
		b.capacity = max(int64(least), int64(float64(successes-b.mark)*float64(window)/float64(elapsed)))
		b.mark, b.markAt = successes, now
	} else if elapsed < 0 {
		b.mark, b.markAt = successes, now // the clock was set back
	}
	b.level += min(int64(successes-b.seen), b.capacity-b.level)
	b.seen = successes
}

// successes returns how many calls of r, without its forks, have succeeded at the
// first attempt.
func (r *Retry) successes() uint64 {
	if r.fork {
		return r.first.Load()
	}
	return r.count.Sum(rootFirstTry)
}

// price returns what a retry costs after an attempt that ended with err.
func price(err error) int64 {
	if timedOut(err) {
		return timeoutPrice
	}
	return quickPrice
}

// pay takes price out of the bucket, or says why there is no retry.
func (r *Retry) pay(price int64) reason {
	if r.cfg.Budget < 0 {
		return 0
	}
	b, now := &r.bucket, r.clock.Nanos() // a Clock is code of the user
	b.askedAt.Store(now)
	if r.streak.Load() >= int64(max(3, r.cfg.MaxAttempts)) {
		return allFailing
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(r.cfg.Budget, r.successes(), now)
	if b.level < price {
		return outOfBudget
	}
	was := b.level
	b.level -= price
	if least := int64(r.cfg.Budget); was >= least && b.level < least {
		b.turn = r.turns.Add(1)
	}
	r.spent.Add(price)
	return 0
}

// refund gives price back.
func (r *Retry) refund(price int64) {
	if r.cfg.Budget < 0 {
		return
	}
	b := &r.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	back := min(price, max(0, b.capacity-b.level))
	b.level += back
	r.refunded.Add(back)
}

// Idle implements resilience.Forker. A retry is idle unless its bucket holds less
// than Config.Budget: a fork in its place would start with as much, so that keys
// that fail would have free retries each time they come back. To bound what that
// keeps, a retry is also idle ten seconds after it was last asked for a retry, and
// once 3000 others have come to hold less after it did.
func (r *Retry) Idle() bool {
	if r.cfg.Budget < 0 {
		return true
	}
	b, now := &r.bucket, r.clock.Nanos()
	if quiet := now - b.askedAt.Load(); quiet < 0 || quiet >= int64(idleAfter) {
		return true // if the clock was set back, nobody knows
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.turns.Load()-b.turn >= mostShort {
		return true
	}
	b.fill(r.cfg.Budget, r.successes(), now)
	return b.level >= int64(r.cfg.Budget)
}

// Stats is what a Retry has counted since it was made, and its present state.
type Stats struct {
	Counters
	Gauges
}

// Counters are the counters of a retry and all its forks. They never fall.
type Counters struct {
	// Calls by how they ended: at the first attempt, after a retry, in a panic or
	// runtime.Goexit, or given up, by the reason. The budget has stopped the calls in
	// Stopped[OutOfBudget] and Stopped[AllFailing].
	FirstTry, Recovered, Aborted uint64
	Stopped                      map[string]uint64
	// Retries are the attempts after the first ones.
	Retries uint64
	// Units of the budget. Earned counts one for each success, including successes that
	// a full bucket has no room for. Spent counts the prices of retries, Refunded the
	// prices that came back, as far as the bucket had room. All are 0 without a budget.
	Earned, Spent, Refunded int64
}

// Gauges are the present state of one retry without its forks. Both are 0 without a
// budget.
type Gauges struct {
	// Level is how many units are in the bucket, Capacity how many it can hold at
	// present.
	Level, Capacity int64
}

// GaveUp returns how many calls were given up, for whatever reason.
func (s Counters) GaveUp() (n uint64) {
	for _, calls := range s.Stopped {
		n += calls
	}
	return n
}

// Calls returns how many calls have ended.
func (s Counters) Calls() uint64 { return s.FirstTry + s.Recovered + s.Aborted + s.GaveUp() }

// Stats returns the counters. They are read one after another while calls go on,
// so they agree with each other once the retry is at rest.
func (r *Retry) Stats() Stats {
	var s Stats
	s.Counters = Counters{
		FirstTry:  r.count.Sum(rootFirstTry) + r.count.Sum(forkFirstTry),
		Recovered: r.count.Sum(recovered),
		Aborted:   r.stopped[aborted].Load(),
		Stopped:   make(map[string]uint64, len(reasons)-1),
		Retries:   r.count.Sum(retries),
		Spent:     r.spent.Load(),
		Refunded:  r.refunded.Load(),
	}
	for why := outOfAttempts; int(why) < len(reasons); why++ {
		s.Stopped[reasons[why]] = r.stopped[why].Load()
	}
	if r.cfg.Budget < 0 {
		return s
	}
	s.Earned = int64(s.FirstTry)
	s.Level, s.Capacity = r.Budget()
	return s
}

// Budget returns what is in the bucket and what it holds at present, as Stats does;
// both are 0 without a budget.
func (r *Retry) Budget() (level, capacity int64) {
	if r.cfg.Budget < 0 {
		return 0, 0
	}
	b, now := &r.bucket, r.clock.Nanos()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(r.cfg.Budget, r.successes(), now)
	return b.level, b.capacity
}
