package bulkhead

import (
	"math"
	"testing"
	"time"
)

// A timeout by the caller's own deadline is no evidence, whatever else is.
func TestCongestion_own(t *testing.T) {
	s := healthy(0, 40)
	s.serves(8, slowly)
	before := s.congestion
	for range 20 {
		s.n++
		s.timedOut(s.now, second, s.n, s.n, 40, true)
	}
	if s.window != 0 || s.timeout != 0 || s.last != before.last {
		t.Errorf("a congestion began, or a timeout is known: %+v", s.congestion)
	}
	if s.timeouts < 0.8 || s.inRow != 20 {
		t.Errorf("they are not in the share of timeouts: %+v", s.congestion)
	}
	s.fails(1)
	if s.window != 10 {
		t.Errorf("none began with a timeout that is evidence: %+v", s.congestion)
	}
}

// A timeout that took no longer than the recent successes is no evidence.
func TestCongestion_quickTimeout(t *testing.T) {
	for _, tt := range []struct {
		took   time.Duration
		begins bool
	}{{time.Microsecond, false}, {quickly, false}, {slowly - 10*time.Millisecond, false}, {slowly + time.Millisecond, true}} {
		s := healthy(0, 40)
		s.serves(20, slowly)
		for range 20 {
			s.n++
			s.timedOut(s.now, int64(tt.took), s.n, s.n, 40, false)
		}
		if begins := s.window > 0; begins != tt.begins || begins != (s.timeout > 0) {
			t.Errorf("timeouts after %v: begins %v, %+v", tt.took, begins, s.congestion)
		}
	}
}

// In a congestion such timeouts do not cut the window, and a check takes them for calls that have
// ended.
func TestCongestion_noEvidence_window(t *testing.T) {
	for _, own := range []bool{false, true} {
		took := map[bool]int64{false: 1, true: second}[own]
		s := overloaded(0, 40)
		for range checkCalls {
			s.n++
			s.timedOut(s.now, took, s.n, s.n, 40, own)
		}
		if s.checking || s.window != 10 {
			t.Errorf("own %v: the check goes on, or has failed: %+v", own, s.congestion)
		}
		for range 20 {
			s.n++
			s.timedOut(s.now, took, s.n, s.n, 40, own)
		}
		if s.checking || s.window != 10 || s.timeout != 1e9 {
			t.Errorf("own %v: the window was cut: %+v", own, s.congestion)
		}
	}
}

// A congestion begins only if successes take at least four times as long as usual.
func TestCongestion_begins_slower(t *testing.T) {
	for _, tt := range []struct {
		usual  time.Duration
		begins bool
	}{{quickly, true}, {195 * time.Millisecond, true}, {205 * time.Millisecond, false}, {slowly, false}} {
		s := &stream{now: 100 * second, inFlight: 40}
		s.serves(recentUsual, tt.usual)
		s.serves(20, slowly)
		s.fails(20)
		if begins := s.window > 0; begins != tt.begins {
			t.Errorf("calls usually take %v: begins %v with calls of %v", tt.usual, begins, slowly)
		}
	}
}

// Without any success it is not known how long calls take, so no congestion begins.
func TestCongestion_begins_noSuccess(t *testing.T) {
	s := &stream{now: 100 * second, inFlight: 40}
	s.fails(100)
	if s.window != 0 {
		t.Errorf("begun: %+v", s.congestion)
	}
}

// The first calls count equally in the usual time, so that the first one is not it.
func TestCongestion_usual_firstCalls(t *testing.T) {
	s := &stream{now: 100 * second}
	for i := range 7 {
		s.serves(1, time.Duration(i+1)*time.Millisecond)
		if want := float64(i+2) / 2 * 1e6; math.Abs(s.usual-want) > 1 {
			t.Errorf("%v after %d calls, want %v", s.usual, i+1, want)
		}
	}
}

// The usual time is a mean of the first eight calls.
func TestCongestion_usual_firstEight(t *testing.T) {
	s := &stream{now: 100 * second}
	for i := range 8 {
		s.serves(1, time.Duration(i+1)*time.Millisecond)
	}
	if want := 4.5e6; math.Abs(s.usual-want) > 1 {
		t.Errorf("%v, want %v", s.usual, want)
	}
}

// Later the usual time follows the time of the successes by the time that has passed, however
// many there are: in five minutes by 63 %.
func TestCongestion_usual_time(t *testing.T) {
	for _, rate := range []int64{1, 10, 100} {
		s := healthy(0, 40)
		for range 300 * rate {
			s.now += second / rate
			s.serves(1, 1050*time.Millisecond)
		}
		if want := 50e6 + 1e9*(1-1/math.E); math.Abs(s.usual-want) > 1e6 {
			t.Errorf("%d calls a second: %v after five minutes, want %v", rate, s.usual, want)
		}
	}
	s := healthy(0, 40)
	s.serves(1000, slowly)
	if s.usual != float64(quickly) {
		t.Errorf("%v after a thousand calls at once", s.usual)
	}
}

// A clock that is set back does not move the usual time.
func TestCongestion_usual_clockSetBack(t *testing.T) {
	s := healthy(0, 40)
	s.now -= 50 * second
	s.serves(10, slowly)
	if s.usual != float64(quickly) {
		t.Errorf("usual %v", s.usual)
	}
}

// Calls that are not timed do not move it either.
func TestCongestion_usual_untimed(t *testing.T) {
	s := healthy(0, 40)
	s.now += 100 * second
	s.serves(10, 0)
	if s.usual != float64(quickly) || s.samples != recentUsual {
		t.Errorf("usual %v", s.usual)
	}
}

// During a congestion the usual time does not change.
func TestCongestion_usual_frozen(t *testing.T) {
	s := narrowed(10)
	for range 25 {
		s.now += second
		s.isFull(s.now)
		s.serves(10, middling)
	}
	if s.window == 0 || s.usual != float64(quickly) {
		t.Errorf("usual %v: %+v", s.usual, s.congestion)
	}
}

// The first success after a congestion does not count for the time of the congestion.
func TestCongestion_usual_afterCongestion(t *testing.T) {
	s := narrowed(10)
	for range 240 {
		s.now += second
		s.isFull(s.now)
		s.serves(1, middling)
	}
	if s.window == 0 {
		t.Fatalf("ended: %+v", s.congestion)
	}
	s.end(s.now)
	s.serves(1, slowly)
	if s.usual > 1.1*float64(quickly) {
		t.Errorf("usual %v at the end of a congestion, and %v before", time.Duration(s.usual), quickly)
	}
}

// A congestion that is older than sixty timeouts of a second lets its window grow by one call for
// each success, however long it takes. If over 30 % time out again, a quarter of it is checked, and
// it may grow after twice as long, up to sixteen minutes.
func TestCongestion_old(t *testing.T) {
	s := narrowed(40)
	for i, want := range []int64{60, 120, 240, 480, 960, 960} {
		s.now = s.since + want*second
		s.full, s.window = s.now, 40
		s.serves(1, slowly)
		if s.window > 41 || s.isOld(s.now) {
			t.Errorf("congestion %d is old after %d s: %+v", i, want, s.congestion)
		}
		s.now++
		before := s.window
		s.serves(20, slowly)
		if s.window != before+20 {
			t.Errorf("congestion %d: window %v from %v after %d s", i, s.window, before, want)
		}
		s.inFlight = int64(s.window)
		cut := float64(min(s.inFlight, int64(s.window))) / 4
		s.failsUntilChecked()
		if s.window != cut || s.since != s.now {
			t.Errorf("congestion %d: window %v, want %v: %+v", i, s.window, cut, s.congestion)
		}
		s.serves(checkCalls, middling)
	}
}

// If the window has shrunk to an eighth, and calls are not quicker, the congestion ends and rests.
func TestCongestion_givesUp(t *testing.T) {
	for _, tt := range []struct {
		later time.Duration // how long calls take with a small window
		ends  bool
	}{{slowly, true}, {810 * time.Millisecond, true}, {600 * time.Millisecond, false}} {
		s := overloaded(0, 400)
		s.serves(checkCalls, slowly) // the check helps: none times out
		s.steady, s.before = float64(slowly), float64(slowly)
		trips := 0
		for ; s.window > 12.5 && trips < 100; trips++ { // 100, 70, 49 ...
			last := s.n + 16
			for s.n < last {
				s.n++
				s.succeeded(s.now, int64(tt.later), s.n, last)
			}
		}
		if ended := s.window == 0; ended != tt.ends {
			t.Errorf("calls take %v: %+v", tt.later, s.congestion)
		} else if ended && (trips != 6 || s.rest != s.now+120*second || s.rests != 1 || s.checking) {
			t.Errorf("after %d round trips: %+v", trips, s.congestion)
		}
	}
}

// A window that is not an eighth yet goes on to shrink.
func TestCongestion_givesUp_notYet(t *testing.T) {
	s := overloaded(0, 20)
	s.serves(checkCalls, slowly)
	for range 100 {
		s.serves(1, slowly)
	}
	if s.window != 1 || s.peak != 5 || s.rest != 0 {
		t.Errorf("%+v", s.congestion)
	}
}
