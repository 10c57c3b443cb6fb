package retry_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resilience-go/resilience/retry"
)

// world is what the models of a retry and its forks have in common.
type world struct {
	attempts, least int

	now         time.Duration
	spent, back int // units, of all
	turns       int // how often one has become short
}

// model is what the budget is meant to be, in the words of the type Retry: slow,
// with a list of all successes at the first attempt.
type model struct {
	*world
	successes []time.Duration // at the first attempt
	banked    int             // of them, those that are in level
	level     int
	holds     int
	measured  time.Duration // since when the rate is measured
	counted   int           // successes until then
	failed    []bool        // of each attempt, in the order of their ends
	asked     time.Duration // when a retry was last asked for
	turn      int           // when it became short
}

func (w *world) newModel() *model {
	return &model{world: w, level: w.least, holds: w.least, measured: w.now}
}

// idle is whether a fresh one in its place would give nothing away, or it is not
// worth its memory.
func (m *model) idle() bool {
	if m.now < m.asked || m.now >= m.asked+10*time.Second || m.turns >= m.turn+3000 {
		return true
	}
	m.bank()
	return m.level >= m.least
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
func (m *model) call(errs []error) (made int, why string) {
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

var errRefused = refusal()

// twin is a retry or a fork, beside the model of it.
type twin struct {
	r *retry.Retry
	m *model
}

// call has both make the same call.
func (w twin) call(t *testing.T, errs []error) {
	t.Helper()
	made, why := w.m.call(errs)
	op, runs := script(errs...)
	err := run(w.r, op)
	var got string
	if err == errRefused {
		got = retry.Rejected
	} else if err != nil {
		got = asError(t, err).Reason
	}
	if runs() != made || got != why {
		t.Fatalf("errors %v: %d attempts, stopped by %v; want %d, %v (level %d)", errs, runs(), got, made, why, w.m.level)
	}
}

// play has a retry, two forks and their models live through the same steps, each
// of two bytes: whom it is for, and what it is.
func play(t *testing.T, attempts, budget int, steps []byte) {
	clock := newHandClock()
	root := must(t, quick(retry.Config{MaxAttempts: attempts, Budget: budget, Clock: clock}))
	w := &world{attempts: attempts, least: budget}
	twins := []twin{{root, w.newModel()}, {root.Fork("").(*retry.Retry), w.newModel()}}
	for i := 0; i+1 < len(steps); i += 2 {
		if i >= len(steps)/3 && len(twins) == 2 { // one that is made late
			twins = append(twins, twin{root.Fork("").(*retry.Retry), w.newModel()})
		}
		who, many, kind := twins[int(steps[i])%len(twins)], int(steps[i+1]>>3)+1, steps[i+1]&7
		switch kind {
		case 0, 1:
			for range many * many {
				who.call(t, []error{nil})
			}
		case 2, 3:
			d := time.Duration(many*many) * 3 * time.Millisecond
			if kind == 3 && many > 20 {
				d = -d // the clock is set back
			}
			if w.now+d >= 0 { // a time before the start of r reads as the start
				w.now += d
				clock.move(d)
			}
		default:
			who.call(t, errorsOf(attempts, many, kind))
		}
		if steps[i] >= 128 { // a look also brings the bucket up to date
			who.check(t)
		}
	}
	for _, who := range twins {
		who.check(t)
	}
}

// check looks at all that can be seen of a retry.
func (w twin) check(t *testing.T) {
	t.Helper()
	m := w.m
	if got, want := w.r.Idle(), m.idle(); got != want {
		t.Fatalf("idle is %v, want %v: %+v", got, want, m)
	}
	m.bank()
	if s := w.r.Stats(); s.Level != int64(m.level) || s.Capacity != int64(m.holds) || s.Spent != int64(m.spent) || s.Refunded != int64(m.back) {
		t.Fatalf("counted %+v, want level %d of %d, %d spent, %d back", s, m.level, m.holds, m.spent, m.back)
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
		if attempts < 1 || attempts > 10 || budget < 5 || budget > 1000 || len(steps) > 1000 {
			t.Skip()
		}
		play(t, attempts, budget, steps)
	})
}

func TestTheBudgetIsThatOfTheModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		steps := make([]byte, 300)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		play(t, 1+random.IntN(6), 5+random.IntN(60), steps)
	}
}
