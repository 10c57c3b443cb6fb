package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A drive tells a machine what a Limit would tell it, with nobody in it.
type drive struct {
	m       machine
	now     int64
	told    int64 // when the machine last heard of anything
	watched bool
	in      []int64 // when those in the handler came to it
	line    []int64 // when those in front of it came
}

// settle serves the line, and stops to watch if there is nothing to see.
func (d *drive) settle() {
	m := &d.m
	for m.overload && len(d.line) > 0 && d.now-d.line[0] > m.patience() {
		d.line, m.lost = d.line[1:], true
	}
	for len(d.line) > 0 && len(d.in) < m.level {
		i := 0
		if m.newest {
			i = len(d.line) - 1
		}
		d.line = slices.Delete(d.line, i, i+1)
		d.in = append(d.in, d.now)
	}
	if d.waiting() == 0 && m.idle() {
		d.watched = false
	}
}

func (d *drive) waiting() int {
	if d.m.upOnly {
		return max(0, len(d.in)-d.m.level)
	}
	return len(d.line)
}

func (d *drive) watch() {
	if !d.watched {
		d.watched = true
		d.m.bind(d.now)
	}
}

func (d *drive) arrive() {
	if len(d.in) >= d.m.level {
		d.watch()
	}
	if d.watched {
		d.m.arrive(d.now, len(d.in))
		d.told = d.now
	}
	if d.m.upOnly || len(d.line) == 0 && len(d.in) < d.m.level {
		d.in = append(d.in, d.now)
	} else {
		d.line = append(d.line, d.now)
	}
	d.settle()
}

// complete has number i of those in the handler leave it.
func (d *drive) complete(i int, useful bool) {
	if len(d.in) == 0 {
		return
	}
	i %= len(d.in)
	m, flight, took := &d.m, len(d.in), d.now-d.in[i]
	if d.watched {
		m.complete(d.now, took, useful, flight, d.waiting())
		d.told = d.now
	}
	if useful && len(d.line) == 0 && 2*flight <= m.level {
		m.calm.add(d.now, took, 1)
	}
	if len(d.line) == 0 && flight < m.level && m.leave(d.now, !useful && m.late(took), 1, flight) {
		d.watch()
	}
	d.in = slices.Delete(d.in, i, i+1)
	d.settle()
}

// giveUp has number i of those in line leave it.
func (d *drive) giveUp(i int) {
	if len(d.line) > 0 {
		i %= len(d.line)
		d.line = slices.Delete(d.line, i, i+1)
		d.m.lost = true
		d.settle()
	}
}

// serve has a handler be busy for so many completions: of fewer than workers in it each
// takes as long, and more of them longer. Requests come so that there is enough to do.
func (d *drive) serve(n, workers int, takes int64, unhappy int) {
	for i := range n {
		for len(d.in) < d.m.level || len(d.line) == 0 {
			d.arrive()
			if d.m.upOnly && len(d.in) > d.m.level {
				break
			}
		}
		d.now += max(1, takes/int64(min(workers, len(d.in))))
		d.arrive()
		d.complete(0, unhappy == 0 || i%unhappy != 0)
	}
}

// step does what two bytes say.
func (d *drive) step(what, n byte) {
	switch k := int(n); what % 16 {
	case 0, 1, 2, 3:
		for range 1 + k%16 {
			d.arrive()
		}
	case 4, 5, 6:
		d.complete(k, true)
	case 7:
		for range 1 + k%16 {
			d.complete(k, true)
		}
	case 8:
		d.complete(k, false)
	case 9:
		for range 1 + k%16 {
			d.complete(0, k%3 == 0)
		}
	case 10:
		d.giveUp(k)
	case 11: // up to two minutes
		d.now += 1 << (k % 38)
	case 12:
		d.now += int64(k) * int64(time.Millisecond)
	case 13:
		d.serve(8*(1+k%32), 1+k%7*5, int64(10*time.Millisecond), 0)
	case 14:
		d.serve(8*(1+k%32), 1+k, int64(time.Millisecond)<<(k%8), 1+k%4)
	case 15:
		for len(d.in) > k%4 {
			d.now += int64(time.Millisecond)
			d.complete(0, true)
		}
	}
}

// wrong returns what can never be true of a machine.
func (d *drive) wrong() string {
	m := &d.m
	switch {
	case m.limit < m.lowest || m.limit > m.highest:
		return fmt.Sprintf("a limit of %d", m.limit)
	case !m.testing() && m.level != m.limit:
		return fmt.Sprintf("a level of %d without a test", m.level)
	case m.testing() && m.up && (m.level <= m.limit || m.level > min(4*m.limit, m.highest)):
		return fmt.Sprintf("a test of %d above a limit of %d", m.level, m.limit)
	case m.testing() && !m.up && (m.level < 1 || m.level >= m.limit || m.upOnly):
		return fmt.Sprintf("a test of %d below a limit of %d", m.level, m.limit)
	case m.testing() && d.told-m.begin > m.longest():
		return fmt.Sprintf("a test for %v", time.Duration(d.told-m.begin))
	case m.patience() < shortest:
		return fmt.Sprintf("a patience of %v", time.Duration(m.patience()))
	case m.testing() && !d.watched:
		return "a test that nobody watches"
	}
	for name, x := range map[string]float64{
		"knee": m.knee, "gap": m.pace.gap, "calm": m.calm.stay, "base": m.base, "rested": m.rested,
		"share": m.leaving.share, "refine": m.refine.throughput, "stay": m.stay(),
	} {
		if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
			return fmt.Sprintf("%s is %v", name, x)
		}
	}
	for name, at := range map[string]int64{
		"window": m.window.start, "check": m.check.start, "trend": m.trend.start, "begin": m.begin,
		"waited": m.waited, "last": m.pace.last, "cycle": m.cycle,
	} {
		if at < 0 || at > d.now {
			return fmt.Sprintf("%s is %v from now", name, time.Duration(at-d.now))
		}
	}
	for name, w := range map[string]window{"window": m.window, "check": m.check, "trend": m.trend} {
		if w.arrivals < 0 || w.useful > w.completions || w.reached > w.completions {
			return fmt.Sprintf("%s is %+v", name, w)
		}
	}
	return ""
}

func newDrive(most uint16, upOnly bool) *drive {
	highest := max(1, min(int(most), 2000)) // of which all places are taken
	return &drive{m: newMachine(min(least, highest), highest, upOnly)}
}

// run does all the steps, and looks at the machine after each.
func (d *drive) run(t *testing.T, steps []byte) {
	t.Helper()
	for i := 0; i+1 < len(steps); i += 2 {
		before := d.m
		d.step(steps[i], steps[i+1])
		if w := d.wrong(); w != "" {
			t.Fatalf("step %d (%d, %d): %s\n%+v", i/2, steps[i], steps[i+1], w, d.m)
		}
		if d.m.overload && !before.overload && !d.m.proven && !before.proven && steps[i]%16 < 13 {
			t.Fatalf("step %d: an overload that nothing has proven\n%+v", i/2, d.m)
		}
	}
}

// over has requests come and go as they did until a test is over.
func (d *drive) over(t *testing.T) {
	t.Helper()
	gap := max(d.m.longest()/5000, int64(min(d.m.pace.gap, 1e12)))
	for end := d.now + 2*d.m.longest() + 10*gap; d.m.testing(); d.now += gap {
		if d.now > end {
			t.Fatalf("a test goes on and on\n%+v", d.m)
		}
		before := d.m.results
		d.arrive()
		d.complete(0, true)
		if d.m.results != before {
			return // what goes on may be the next one
		}
	}
}

func FuzzMachine(f *testing.F) {
	f.Add(uint16(0), false, []byte{})
	f.Add(uint16(2000), false, []byte{13, 31, 13, 31, 14, 31, 12, 200, 13, 31, 14, 96, 15, 0, 13, 5})
	f.Add(uint16(2), false, []byte{13, 31, 13, 31, 13, 31, 11, 37, 14, 255})
	f.Add(uint16(1000), true, []byte{13, 31, 13, 31, 14, 4, 14, 255, 9, 200, 9, 200, 11, 30})
	f.Add(uint16(80), false, []byte{0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 11, 28, 9, 255, 9, 254, 8, 1, 10, 3, 13, 255})
	f.Fuzz(func(t *testing.T, most uint16, upOnly bool, steps []byte) {
		if len(steps) > 400 {
			return
		}
		d := newDrive(most, upOnly)
		d.run(t, steps)
		again := newDrive(most, upOnly)
		again.run(t, steps)
		if again.m != d.m {
			t.Errorf("the same calls make\n%+v and\n%+v", d.m, again.m)
		}
		d.over(t)
	})
}

// Random steps break no invariant of the machine.
func TestMachine_randomSteps(t *testing.T) {
	tests, overloads := 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 400)
		for i := range steps {
			steps[i] = byte(rng.IntN(256))
		}
		d := newDrive([]uint16{2000, 1, 3, 100, 200}[seed%5], seed%7 == 0)
		d.run(t, steps)
		r := d.m.results
		tests += int(r.Raised + r.NotRaised + r.Lowered + r.NotLowered)
		if d.m.proven {
			overloads++
		}
		d.over(t)
	}
	if tests < 300 || overloads < 30 {
		t.Errorf("%d tests with a result, %d proofs: little was looked at", tests, overloads)
	}
}
