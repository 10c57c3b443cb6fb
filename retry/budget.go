package retry

import (
	"sync"
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
)

// bucket is what is left to pay retries with. It is brought up to date when an
// attempt fails, so that a success costs one counter and no clock.
type bucket struct {
	mu       sync.Mutex // guards all below; never held while code of the user runs
	level    int64
	capacity int64
	seen     uint64 // successes that are in level
	mark     uint64 // successes at the time markAt, from which their rate is measured
	markAt   int64
}

// newBucket returns a full bucket that is made at the time now.
func newBucket(units int, now int64) bucket {
	return bucket{level: int64(units), capacity: int64(units), markAt: now}
}

// fill adds the successes since the last time, of successes in all, and returns
// how many units that were. The bucket can hold least units at least. The caller holds
// mu.
func (b *bucket) fill(least int, successes uint64, now int64) (earned int64) {
	if elapsed := now - b.markAt; elapsed >= int64(window) {
		b.capacity = max(int64(least), int64(float64(successes-b.mark)*float64(window)/float64(elapsed)))
		b.mark, b.markAt = successes, now
	} else if elapsed < 0 {
		b.mark, b.markAt = successes, now // the clock was set back
	}
	before := b.level
	b.level += min(int64(successes-b.seen), b.capacity-b.level)
	b.seen = successes
	return max(0, b.level-before)
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
func (r *Retry) pay(price int64) Reason {
	if r.cfg.Budget < 0 {
		return 0
	}
	if r.streak.Load() >= int64(max(3, r.cfg.MaxAttempts)) {
		return AllFailing
	}
	b, now := &r.bucket, r.clock.Nanos() // a Clock is code of the user
	b.mu.Lock()
	defer b.mu.Unlock()
	r.earned.Add(b.fill(r.cfg.Budget, r.successes(), now))
	if b.level < price {
		return OutOfBudget
	}
	b.level -= price
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

// Stats is what a Retry has counted since it was made. The counters are those of a
// retry and all its forks; Level and Capacity are its own.
type Stats struct {
	// Calls by how they ended: at the first attempt, after a retry, in a panic or
	// runtime.Goexit, or given up, by the reason.
	FirstTry, Recovered, Aborted uint64
	Stopped                      map[Reason]uint64
	// Retries are the attempts after the first ones.
	Retries uint64
	// Units of the budget that successes have earned, and that retries were paid
	// with and got back. What a fork has earned is added when it next pays. A retry gets back what it cost, as far as the bucket has
	// room for it.
	Earned, Spent, Refunded int64
	// Level is what is in the bucket, Capacity what it holds at present.
	Level, Capacity int64
}

// Stats returns the counters. They are read one after another while calls go on,
// so they agree with each other once the retry is at rest.
func (r *Retry) Stats() Stats {
	s := Stats{
		FirstTry:  r.count.Sum(rootFirstTry) + r.count.Sum(forkFirstTry),
		Recovered: r.recovered.Load(),
		Aborted:   r.stopped[aborted].Load(),
		Stopped:   make(map[Reason]uint64, reasons-1),
		Retries:   r.retries.Load(),
		Spent:     r.spent.Load(),
		Refunded:  r.refunded.Load(),
	}
	for reason := OutOfAttempts; reason < reasons; reason++ {
		s.Stopped[reason] = r.stopped[reason].Load()
	}
	b, now := &r.bucket, r.clock.Nanos()
	b.mu.Lock()
	if r.cfg.Budget > 0 {
		r.earned.Add(b.fill(r.cfg.Budget, r.successes(), now))
		s.Level, s.Capacity = b.level, b.capacity
	}
	b.mu.Unlock()
	s.Earned = r.earned.Load()
	return s
}
