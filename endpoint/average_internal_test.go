package endpoint

import (
	"math"
	"testing"
	"time"
)

const second = int64(time.Second)

// samples returns an average of ten samples, the last of them at the time at.
func samples(value float64, at int64) *average {
	a := new(average)
	for range 10 {
		a.add(value, at, 1./16)
	}
	return a
}

func near(got, want float64) bool { return math.Abs(got-want) <= .05*math.Abs(want) }

// An average of ten samples loses half of its value in 10 s. With one sample it takes 1 s.
func TestAverage_at_fades(t *testing.T) {
	a := samples(8e6, 5*second)
	for s, want := range map[int64]float64{5: 8e6, 15: 4e6, 25: 2e6, 5 + 100: 8e6 / 1024} {
		if got := a.at(s * second); !near(got, want) {
			t.Errorf("at %d s: %g, want %g", s, got, want)
		}
	}
	var one average
	one.add(8e6, 0, 1./16)
	if got := one.at(second); !near(got, 4e6) {
		t.Errorf("one sample after 1 s: %g", got)
	}
	if got := a.last(); got != 8e6 {
		t.Errorf("last is %g", got)
	}
}

// The first samples count alike. Later ones have a weight, or more after a pause.
func TestAverage_add_weight(t *testing.T) {
	var a average
	for i, want := range []float64{100, 150, 200} {
		if a.add(float64(100+100*i), 0, 1./16); !near(a.last(), want) {
			t.Errorf("after %d samples: %g, want %g", i+1, a.last(), want)
		}
	}
	a = *samples(100, 0)
	a.add(260, 0, 1./16)
	if got := a.last(); !near(got, 116) {
		t.Errorf("a sample with a weight of 1/16: %g", got)
	}
	a = *samples(100, 0)
	a.add(200, 100*second, 1./16)
	if got := a.last(); got < 190 {
		t.Errorf("a sample after 100 s: %g", got)
	}
}

// However long the pause was, an average never becomes fresh again: not after 20 hours, and
// not after a year.
func TestAverage_at_longPause(t *testing.T) {
	a := samples(8e6, 0)
	for _, d := range []time.Duration{time.Hour, 19 * time.Hour, 30 * time.Hour, 37*time.Hour + 17*time.Minute, 40 * time.Hour, 50 * 24 * time.Hour, 100 * 24 * time.Hour, 365 * 24 * time.Hour} {
		if got := a.at(int64(d)); got > 1 {
			t.Errorf("after %v: %g", d, got)
		}
	}
}

// A sample that is newer than now, because another goroutine has read the clock later, is
// present. One that is an hour newer shows that the clock was set back, and is forgotten.
func TestAverage_at_newer(t *testing.T) {
	a := samples(8e6, 7200*second)
	if got := a.at(7200*second - 30*second); got != 8e6 {
		t.Errorf("30 s before: %g", got)
	}
	if got := a.at(3600 * second); got > 1 {
		t.Errorf("an hour before: %g", got)
	}
	a.add(1e6, 3600*second, 1./16)
	if got := a.at(3600 * second); got > 1.1e6 {
		t.Errorf("an hour before, with a sample: %g", got)
	}
}

// raise sets the value at now, and not only that of the last sample.
func TestAverage_raise(t *testing.T) {
	a := samples(8e6, 0)
	if a.raise(5e6, 0); a.at(0) != 8e6 {
		t.Errorf("raised to %g", a.at(0))
	}
	if a.raise(5e6, 20*second); !near(a.at(20*second), 5e6) {
		t.Errorf("after 20 s: %g", a.at(20*second))
	}
	var empty average
	if empty.raise(5e6, 0); !near(empty.at(0), 5e6) {
		t.Errorf("without a sample: %g", empty.at(0))
	}
}

// A failure after many successes has the weight of one sample, also after a pause between
// the successes.
func TestAverage_add_afterSuccesses(t *testing.T) {
	var a average
	for i := range int64(200) {
		a.add(0, i*second/20, 1./8)
	}
	if a.add(1, 10*second, 1./8); !near(a.at(10*second), 1./8) {
		t.Errorf("one failure of 201 attempts: %g", a.at(10*second))
	}
}

// A share of failures that is negligible becomes 0 and is rarely written again.
func TestAverage_add_negligible(t *testing.T) {
	var a average
	a.add(1, 0, 1./8)
	for range 50 {
		a.add(0, second, 1./8)
	}
	word := a.word.Load()
	a.add(0, second+second/20, 1./8)
	if a.last() != 0 || a.word.Load() != word {
		t.Errorf("%g, written %v", a.last(), a.word.Load() != word)
	}
	if a.reset(); a.word.Load() != 0 {
		t.Error("reset")
	}
}
