package retry_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resilience-go/resilience/retry"
)

// model is what the budget is meant to be, in the words of the type Retry: slow,
// with a list of all successes at the first attempt.
type model struct {
	attempts, least int

	now       time.Duration
	successes []time.Duration // at the first attempt
	banked    int             // of them, those that are in level
	level     int
	holds     int
	measured  time.Duration // since when the rate is measured
	counted   int           // successes until then
	failed    []bool        // of each attempt, in the order of their ends
}

func newModel(attempts, budget int) *model {
	return &model{attempts: attempts, least: budget, level: budget, holds: budget}
}

// bank brings the level up to date.
func (m *model) bank() {
	if span := m.now - m.measured; span >= time.Second {
		m.holds = max(m.least, (len(m.successes)-m.counted)*int(time.Second)/int(span))
		m.measured, m.counted = m.now, len(m.successes)
	} else if span < 0 {
		m.measured, m.counted = m.now, len(m.successes)
	}
	for ; m.banked < len(m.successes); m.banked++ {
		m.level++
	}
	m.level = min(m.level, m.holds)
}

// allFailing is whether the last attempts, three or as many as a call has, failed.
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

// call is one call whose attempts end with errs. It returns how many are made and
// why there is no further one, 0 if the last one succeeded.
func (m *model) call(errs []error) (made int, why retry.Reason) {
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
			return made, 0
		case err == errRefused:
			m.giveBack(price)
			return made, retry.Rejected
		}
		m.failed = append(m.failed, true)
		if price = 5; err == error(timedOut{}) {
			price = 20
		}
		if made == m.attempts {
			return made, retry.OutOfAttempts
		}
		if m.allFailing() {
			return made, retry.AllFailing
		}
		m.bank()
		if m.level < price {
			return made, retry.OutOfBudget
		}
		m.level -= price
	}
}

func (m *model) giveBack(price int) { m.level = max(m.level, min(m.level+price, m.holds)) }

var errRefused = refusal()

// play has r and the model live through the same steps.
func play(t *testing.T, attempts, budget int, steps []byte) {
	clock := newHandClock()
	r := must(t, quick(retry.Config{MaxAttempts: attempts, Budget: budget, Clock: clock}))
	m := newModel(attempts, budget)
	for i, step := range steps {
		many, kind := int(step>>3)+1, step&7
		switch kind {
		case 0, 1:
			for range many * many {
				m.call([]error{nil})
				_ = run(r, func(context.Context) error { return nil })
			}
			continue
		case 2, 3:
			d := time.Duration(many*many) * 3 * time.Millisecond
			if kind == 3 && many > 20 {
				d = -d // the clock is set back
			}
			if m.now+d >= 0 { // a time before the start of r reads as the start
				m.now += d
				clock.move(d)
			}
			continue
		}
		errs := errorsOf(attempts, many, kind)
		made, why := m.call(errs)
		op, runs := script(errs...)
		err := run(r, op)
		var got retry.Reason
		if err == errRefused {
			got = retry.Rejected
		} else if err != nil {
			got = asError(t, err).Reason
		}
		if runs() != made || got != why {
			t.Fatalf("step %d, errors %v: %d attempts, stopped by %v; want %d, %v (level %d)", i, errs, runs(), got, made, why, m.level)
		}
	}
	m.bank()
	if s := r.Stats(); s.Level != int64(m.level) || s.Capacity != int64(m.holds) {
		t.Fatalf("level %d of %d, want %d of %d", s.Level, s.Capacity, m.level, m.holds)
	}
}

// errorsOf returns the errors of a call: quick failures, timeouts or a mix, with a
// success or a refusal after some, if at all.
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
			errs[at] = errRefused
		}
	}
	return errs
}

func FuzzBudget(f *testing.F) {
	f.Add(3, 20, []byte{0, 4, 5, 6, 7, 3, 2, 255, 254, 253, 252})
	f.Add(2, 5, []byte("a success earns, a retry pays"))
	f.Fuzz(func(t *testing.T, attempts, budget int, steps []byte) {
		if attempts < 1 || attempts > 10 || budget < 5 || budget > 1000 || len(steps) > 500 {
			t.Skip()
		}
		play(t, attempts, budget, steps)
	})
}

func TestTheBudgetIsThatOfTheModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		steps := make([]byte, 200)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		play(t, 1+random.IntN(6), 5+random.IntN(60), steps)
	}
}
