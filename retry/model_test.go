package retry_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// world is the state that the models of a retry and its forks share.
type world struct {
	attempts, least int

	now         time.Duration
	spent, back int // units, of all models
	turns       int // how often a bucket has become short
}

// model is the budget as the comment of Retry describes it. It is slow: it keeps a list of
// all successes at the first attempt.
type model struct {
	*world
	successes []time.Duration // at the first attempt
	banked    int             // how many of the successes are in level
	level     int
	holds     int
	measured  time.Duration // the time from which the rate is measured
	counted   int           // successes before measured
	failed    []bool        // by attempt, in the order in which they ended
	asked     time.Duration // when a call last needed a retry
	young     time.Duration // when the run of failures had the age 0
	turn      int           // the number of its last turn to become short
}

func (w *world) newModel() *model {
	return &model{world: w, level: w.least, holds: w.least, measured: w.now}
}

// idle reports whether the fork can be dropped: a new fork would have no more units, or the
// fork is not worth its memory.
func (m *model) idle() bool {
	if m.now < m.asked || m.now >= m.asked+10*time.Second || m.turns >= m.turn+3000 {
		return true
	}
	now := *m // a reading changes nothing
	now.bank()
	return now.level >= m.least
}

// bank brings the level up to date.
func (m *model) bank() {
	if span := m.now - m.measured; span >= time.Second {
		earned := int64(len(m.successes) - m.counted) // int64: a second in nanoseconds is about 2^30
		m.holds = max(m.least, int(earned*int64(time.Second)/int64(span)))
		m.measured, m.counted = m.now, len(m.successes)
	} else if span < 0 {
		m.measured, m.counted = m.now, len(m.successes)
	}
	for ; m.banked < len(m.successes); m.banked++ {
		m.level++
	}
	m.level = min(m.level, m.holds)
}

// allFailing reports whether the last attempts failed: three, or as many as a call makes if
// that is more.
func (m *model) allFailing() bool {
	n := max(3, m.attempts)
	if len(m.failed) < n {
		return false
	}
	for _, failed := range m.failed[len(m.failed)-n:] {
		if !failed {
			return false
		}
	}
	return true
}

// call models one call whose attempts end with errs. It returns the number of attempts, and
// the reason why there is no further one, or "" if the last attempt succeeded.
func (m *model) call(errs []error) (made int, why string) {
	if n := len(m.failed); n > 0 && m.failed[n-1] {
		if m.now-m.young >= 10*time.Second {
			m.failed = nil
		}
	}
	price := 0
	for {
		err := errs[made]
		made++
		switch {
		case err == nil:
			m.failed = append(m.failed, false)
			if made == 1 {
				m.successes = append(m.successes, m.now)
			}
			m.giveBack(price)
			return made, ""
		case err == errRejected:
			m.giveBack(price)
			return made, retry.Rejected
		}
		m.failed, m.young = append(m.failed, true), m.now
		if price = 5; err == error(timedOut{}) {
			price = 20
		}
		if made == m.attempts {
			return made, retry.OutOfAttempts
		}
		m.asked = m.now
		if m.allFailing() {
			return made, retry.AllFailing
		}
		m.bank()
		if m.level < price {
			return made, retry.OutOfBudget
		}
		if m.level >= m.least && m.level-price < m.least {
			m.turns++
			m.turn = m.turns
		}
		m.level -= price
		m.spent += price
	}
}

func (m *model) giveBack(price int) {
	price = max(0, min(price, m.holds-m.level))
	m.level += price
	m.back += price
}

var errRejected = rejection()

// twin is a retry or a fork, together with its model.
type twin struct {
	r *retry.Retry
	m *model
}

// call makes the same call on both and compares the results.
func (w twin) call(t *testing.T, errs []error) {
	t.Helper()
	made, why := w.m.call(errs)
	op, runs := script(errs...)
	err := run(w.r, op)
	var got string
	if err == errRejected {
		got = retry.Rejected
	} else if err != nil {
		got = asError(t, err).Reason
	}
	if runs() != made || got != why {
		t.Fatalf("errors %v: %d attempts, stopped by %v; want %d, %v (level %d)", errs, runs(), got, made, why, w.m.level)
	}
}

// play runs the same steps on a retry, two forks and their models. A step has two bytes:
// which of them it is for, and what it does.
func play(t *testing.T, attempts, budget int, steps []byte) {
	clock := testkit.NewClock()
	root := must(t, quick(retry.Config{MaxAttempts: attempts, Budget: budget, Clock: clock}))
	w := &world{attempts: attempts, least: budget}
	twins := []twin{{root, w.newModel()}, {root.Fork("").(*retry.Retry), w.newModel()}}
	for i := 0; i+1 < len(steps); i += 2 {
		if i >= len(steps)/3 && len(twins) == 2 { // a fork that is made late
			twins = append(twins, twin{root.Fork("").(*retry.Retry), w.newModel()})
		}
		twin, many, kind := twins[int(steps[i])%len(twins)], int(steps[i+1]>>3)+1, steps[i+1]&7
		switch kind {
		case 0, 1:
			for range many * many {
				twin.call(t, []error{nil})
			}
		case 2, 3:
			d := time.Duration(many*many) * 3 * time.Millisecond
			if kind == 3 && many > 20 {
				d = -d // the clock is set back
			}
			if w.now+d >= 0 { // before its start the clock of r reads 0
				w.now += d
				clock.Move(d)
			}
		default:
			twin.call(t, errorsOf(attempts, many, kind))
		}
		if steps[i] >= 128 {
			twin.check(t)
		}
	}
	for _, twin := range twins {
		twin.check(t)
	}
}

// check compares everything that a retry shows with the model.
func (w twin) check(t *testing.T) {
	t.Helper()
	m := *w.m // a reading changes nothing
	if got, want := w.r.Idle(), m.idle(); got != want {
		t.Fatalf("idle is %v, want %v: %+v", got, want, m)
	}
	m.bank()
	if s := w.r.Stats(); s.Level != int64(m.level) || s.Capacity != int64(m.holds) || s.Spent != int64(m.spent) || s.Refunded != int64(m.back) {
		t.Fatalf("counted %+v, want level %d of %d, %d spent, %d back", s, m.level, m.holds, m.spent, m.back)
	}
}

// errorsOf returns the errors of a call: quick failures, timeouts or a mix, with a
// success or a rejection after some of them, if any.
func errorsOf(attempts, many int, kind byte) []error {
	errs := make([]error, attempts)
	for i := range errs {
		errs[i] = errBoom
		if kind == 5 || kind == 6 && i%2 == many%2 {
			errs[i] = timedOut{}
		}
	}
	if at := many % (attempts + 2); at < attempts {
		if errs[at] = nil; kind == 7 {
			errs[at] = errRejected
		}
	}
	return errs
}

func FuzzBudget(f *testing.F) {
	f.Add(3, 20, []byte{0, 4, 5, 6, 7, 3, 2, 255, 254, 253, 252})
	f.Add(2, 5, []byte("a success earns, a retry pays"))
	f.Fuzz(func(t *testing.T, attempts, budget int, steps []byte) {
		if attempts < 1 || attempts > 10 || budget < 5 || budget > 1000 || len(steps) > 1000 {
			t.Skip()
		}
		play(t, attempts, budget, steps)
	})
}

// Random calls change the budget as a slow model says.
func TestRetry_budgetModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		steps := make([]byte, 300)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		play(t, 1+random.IntN(6), 5+random.IntN(60), steps)
	}
}
