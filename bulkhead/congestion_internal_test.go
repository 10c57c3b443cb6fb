package bulkhead

import (
	"testing"
	"time"
)

const second = int64(time.Second)

// A stream calls a congestion with calls that are admitted one after another.
type stream struct {
	congestion
	now      int64
	n        int64 // the last admitted call, which is also the one that ends
	inFlight int64
}

// fails makes calls that time out after a second.
func (s *stream) fails(calls int) {
	for range calls {
		s.n++
		s.timedOut(s.now, second, s.n, s.n, s.inFlight, false)
	}
}

// failsUntilChecked makes calls that time out until a check begins, or ten.
func (s *stream) failsUntilChecked() {
	for i := 0; i < 10 && !s.checking; i++ {
		s.fails(1)
	}
}

// serves makes calls that succeed after d.
func (s *stream) serves(calls int, d time.Duration) {
	for range calls {
		s.n++
		s.succeeded(s.now, int64(d), s.n, s.n)
	}
}

const slowly, middling, quickly = 800 * time.Millisecond, 200 * time.Millisecond, 50 * time.Millisecond

// healthy returns a stream whose calls are quick, with that many in flight.
func healthy(first, inFlight int64) *stream {
	s := &stream{n: first, now: 100 * second, inFlight: inFlight}
	s.last = first
	s.serves(recentUsual, quickly)
	return s
}

// overloaded returns a stream whose congestion has just begun, with that many in flight.
func overloaded(first, inFlight int64) *stream {
	s := healthy(first, inFlight)
	s.serves(8, slowly)
	s.fails(4)
	return s
}

// narrowed returns a stream with a window that has passed its check.
func narrowed(window float64) *stream {
	s := overloaded(100, int64(4*window))
	s.serves(checkCalls, middling)
	return s
}

// A congestion begins if over 30 % of the calls time out, and then only.
func TestCongestion_begins_share(t *testing.T) {
	for _, tt := range []struct {
		before float64 // one timeout moves the share by a tenth of the rest
		begins bool
	}{{0, false}, {0.21, false}, {0.23, true}, {1, true}} {
		s := healthy(0, 40)
		s.serves(20, slowly)
		s.timeouts = tt.before
		s.fails(1)
		if begins := s.window > 0; begins != tt.begins || begins != s.checking {
			t.Errorf("share %v: begins %v, checking %v", s.timeouts, begins, s.checking)
		}
	}
}

// A timeout moves the share by a tenth, and so does a success. Others do not move it.
func TestCongestion_share(t *testing.T) {
	var s stream
	s.fails(1)
	if s.timeouts != 1./10 {
		t.Errorf("%v after a timeout", s.timeouts)
	}
	s.serves(1, slowly)
	if d := s.timeouts - 9./100; d > 1e-9 || d < -1e-9 {
		t.Errorf("%v after a success", s.timeouts)
	}
}

// A congestion begins only while successes are slow: with six calls in flight or more they take
// 0.7 of a timeout, and with fewer 0.4.
func TestCongestion_begins_slow(t *testing.T) {
	for _, tt := range []struct {
		inFlight int64
		took     time.Duration
		begins   bool
	}{
		{40, 0, false}, {40, 690 * time.Millisecond, false}, {40, 710 * time.Millisecond, true}, {40, 990 * time.Millisecond, true},
		{6, 690 * time.Millisecond, false}, {6, 710 * time.Millisecond, true},
		{5, 0, false}, {5, 390 * time.Millisecond, false}, {5, 410 * time.Millisecond, true},
		{4, 390 * time.Millisecond, false}, {4, 410 * time.Millisecond, true},
	} {
		s := healthy(0, tt.inFlight)
		s.serves(40, tt.took)
		s.fails(10)
		if begins := s.window > 0; begins != tt.begins {
			t.Errorf("successes take %v of 1 s with %d in flight: begins %v", tt.took, tt.inFlight, begins)
		}
	}
}

// The time of the successes covers two of them.
func TestCongestion_took(t *testing.T) {
	var s stream
	s.serves(1, 800*time.Millisecond)
	s.serves(1, 200*time.Millisecond)
	s.succeeded(0, 0, 3, 3) // a call that is not timed
	if s.took != 0.3e9 {
		t.Errorf("took %v", s.took)
	}
}

// A congestion is about four calls in flight or more.
func TestCongestion_begins_inFlight(t *testing.T) {
	for inFlight := range int64(8) {
		if s := overloaded(0, inFlight); s.window > 0 != (inFlight >= 4) {
			t.Errorf("%d in flight: window %v", inFlight, s.window)
		}
	}
}

// If it is not known how long a timeout takes, no congestion begins. The last known time stays.
func TestCongestion_begins_untimed(t *testing.T) {
	s := healthy(0, 40)
	s.serves(20, slowly)
	for range 20 {
		s.n++
		s.timedOut(s.now, 0, s.n, s.n, 40, false)
	}
	if s.window != 0 || s.timeout != 0 {
		t.Errorf("%+v", s.congestion)
	}
	s.fails(1)
	s.timedOut(s.now, 0, s.n, s.n, 40, false)
	if s.timeout != 1e9 {
		t.Errorf("timeout %v", s.timeout)
	}
}

// Timeouts of calls that were admitted while successes were quick are no evidence.
func TestCongestion_begins_admittedBefore(t *testing.T) {
	s := healthy(100, 40)
	s.fails(1)
	s.serves(4, quickly)
	s.n += 50 // admitted, and still in flight
	s.serves(1, quickly)
	last := s.n
	s.serves(10, slowly)
	for n := last - 50; n <= last; n++ {
		s.timedOut(s.now, second, n, s.n, 40, false)
	}
	if s.window != 0 {
		t.Fatalf("a congestion began: %+v", s.congestion)
	}
	s.fails(1)
	if s.window == 0 {
		t.Errorf("none began after a later call: %+v", s.congestion)
	}
}

// At first the window is a quarter of the calls in flight.
func TestCongestion_window_begin(t *testing.T) {
	for _, inFlight := range []int64{4, 5, 40, 9999} {
		s := overloaded(0, inFlight)
		if s.window != float64(inFlight)/4 || !s.checking || s.full != s.now || s.last != s.n {
			t.Errorf("%d in flight: %+v", inFlight, s.congestion)
		}
	}
}

// If all calls of a check time out, half of the window is checked, down to one call.
func TestCongestion_check_allTimeOut(t *testing.T) {
	s := overloaded(0, 20)
	for _, want := range []float64{2.5, 1.25, 1, 1, 1} {
		s.fails(checkCalls - 1)
		before := s.window
		s.now += second
		s.fails(1)
		if s.window != want || before == want && want > 1 || !s.checking || s.full != s.now {
			t.Fatalf("window %v after %v, want %v: %+v", s.window, before, want, s.congestion)
		}
	}
}

// A check helps if none of its calls times out.
func TestCongestion_check_helps(t *testing.T) {
	s := overloaded(0, 40)
	s.rests = 3
	s.serves(checkCalls-1, middling)
	if !s.checking || s.window != 10 {
		t.Fatalf("the check is over after seven calls, or its window has changed: %+v", s.congestion)
	}
	s.serves(1, middling)
	if s.checking || s.window != 10 || s.rests != 0 || s.last != s.n {
		t.Errorf("%+v", s.congestion)
	}
}

// useless makes the calls of a check of which some time out.
func (s *stream) useless(failed int) {
	s.fails(failed)
	s.serves(checkCalls-failed, middling)
}

// If three calls time out that were admitted after another had succeeded with the window, the
// congestion ends and rests. Timeouts before that do not count, however many there are.
func TestCongestion_check_useless(t *testing.T) {
	for failed := 1; failed < checkCalls; failed++ {
		for _, helped := range []bool{false, true} {
			s := overloaded(0, 40)
			if helped {
				s.useless(3)
				s.fails(2)
				s.serves(checkCalls-2, middling)
				s.serves(checkCalls, middling)
				s.failsUntilChecked()
			}
			window := s.window
			s.useless(failed)
			for late := range uselessTimeouts {
				if !s.checking || s.window != window || s.congestion.useless != late {
					t.Fatalf("after %d late timeouts: %+v", late, s.congestion)
				}
				s.fails(1)
			}
			if s.window != 0 || s.checking || s.rest != s.now+int64(2*time.Minute) {
				t.Errorf("%d timed out first: %+v", failed, s.congestion)
			}
		}
	}
}

// Timeouts of calls that were admitted before the first success with the window say nothing: the
// queue may be getting shorter. A success of a call from before the cut is not with the window.
func TestCongestion_check_queueGetsShorter(t *testing.T) {
	s := overloaded(100, 40)
	cut := s.n
	s.succeeded(s.now, int64(middling), cut, cut)
	s.succeeded(s.now, int64(middling), cut+1, cut+8)
	for n := cut + 2; n <= cut+8; n++ {
		s.timedOut(s.now, second, n, cut+8, 10, false)
	}
	if !s.checking || s.congestion.useless != 0 || s.worked != cut+8 || s.checked != 0 || s.last != cut+8 {
		t.Errorf("%+v", s.congestion)
	}
	s.n = cut + 8
	s.serves(checkCalls, middling)
	if s.checking || s.window != 10 {
		t.Errorf("after a check that helps: %+v", s.congestion)
	}
}

// A call that ends otherwise is no success with the window.
func TestCongestion_check_easedBySuccess(t *testing.T) {
	s := overloaded(100, 40)
	s.n++
	s.endedOtherwise(s.now, s.n, s.n)
	s.fails(3)
	if s.worked != never || s.congestion.useless != 0 {
		t.Errorf("%+v", s.congestion)
	}
}

// A window is trusted for half a minute, or for sixty timeouts if that is longer, and a congestion
// that was none rests for twice as long.
func TestCongestion_trusted(t *testing.T) {
	for timeout, want := range map[int64]int64{
		0: 30 * second, 100 * millisecond: 30 * second, second / 2: 30 * second, second: 60 * second, 10 * second: 600 * second,
	} {
		s := congestion{window: 10, timeout: float64(timeout), holds: 2, rests: 1}
		if s.isOld(4*want) || !s.isOld(4*want+1) {
			t.Errorf("a timeout of %v: old at another time than %v", time.Duration(timeout), 4*time.Duration(want))
		}
		if s.giveUp(second); s.rest != second+4*want {
			t.Errorf("a timeout of %v: rests until %v", time.Duration(timeout), time.Duration(s.rest))
		}
	}
}

// Most calls time out if two of three recent ones have, or the last three.
func TestCongestion_mostTimeOut(t *testing.T) {
	for _, tt := range []struct {
		share float64
		inRow int
		want  bool
	}{{0, 0, false}, {0.66, 2, false}, {0.67, 1, true}, {0.67, 0, true}, {0, 3, true}, {0.1, 4, true}} {
		if got := (&congestion{timeouts: tt.share, inRow: tt.inRow}).mostTimeOut(); got != tt.want {
			t.Errorf("a share of %v and %d in a row: %v", tt.share, tt.inRow, got)
		}
	}
	s := healthy(0, 40)
	s.fails(2)
	s.serves(1, quickly)
	s.fails(2)
	if s.mostTimeOut() {
		t.Errorf("two in a row, twice: %+v", s.congestion)
	}
	s.fails(1)
	if !s.mostTimeOut() {
		t.Errorf("three in a row: %+v", s.congestion)
	}
}

// Only the eight calls that were admitted after the cut are the check.
func TestCongestion_check_calls(t *testing.T) {
	s := overloaded(100, 40)
	cut := s.n
	for _, n := range []int64{cut - 30, cut, cut + 9, cut + 1000} {
		s.timedOut(s.now, second, n, cut+1000, 40, false)
		s.succeeded(s.now, 1, n, cut+1000)
	}
	if s.checked != 0 || s.failed != 0 || s.window != 10 {
		t.Errorf("others count: %+v", s.congestion)
	}
	for n := cut + 8; n > cut; n-- { // in any order
		s.succeeded(s.now, 1, n, cut+1000)
	}
	if s.checking || s.last != cut+1000 {
		t.Errorf("%+v", s.congestion)
	}
}

// A check ends even if one of its calls fails quickly or is canceled.
func TestCongestion_check_failedCall(t *testing.T) {
	s := overloaded(100, 40)
	s.n++
	s.endedOtherwise(s.now, s.n, s.n)
	s.serves(checkCalls-1, quickly)
	if s.checking || s.window != 10 {
		t.Errorf("the check goes on after seven successes: %+v", s.congestion)
	}
}

// A check ends even if the end of one of its calls is never recorded, as of a Permit that is
// canceled. Otherwise the window would never grow.
func TestCongestion_check_missingCall(t *testing.T) {
	s := overloaded(100, 40)
	s.n++
	for range 3000 {
		s.now += second / 100
		s.isFull(s.now)
		s.serves(1, quickly)
	}
	if s.checking || s.window == 10 {
		t.Errorf("the check goes on after 30 s of quick successes: %+v", s.congestion)
	}
}

// After useless checks none begins for 120, 240, 480, 960, 1920, 1920 timeouts of a second. A check
// that helps resets them.
func TestCongestion_rests(t *testing.T) {
	s := overloaded(0, 40)
	before := s.congestion
	useless := func(want time.Duration) {
		t.Helper()
		for range 3 {
			s.fails(2)
			s.serves(6, slowly)
		}
		if s.window != 0 {
			t.Fatalf("not ended: %+v", s.congestion)
		}
		for _, before := range []int64{int64(want), 1} {
			s.now = s.rest - before
			s.fails(8)
			s.serves(1, slowly)
			if s.window != 0 {
				t.Errorf("begun %v before the end of a rest of %v", time.Duration(before), want)
			}
		}
		s.now = s.rest
		s.usual = before.usual // slow calls have moved it
		s.fails(1)
		if s.window != 10 || s.rest != s.now {
			t.Errorf("not begun after %v: %+v", want, s.congestion)
		}
	}
	for _, minutes := range []time.Duration{2, 4, 8, 16, 32, 32} {
		start := s.now
		useless(minutes * time.Minute)
		if d := time.Duration(s.now - start); d != minutes*time.Minute {
			t.Errorf("rested %v, want %d minutes", d, minutes)
		}
	}
	s.serves(checkCalls, middling)
	s.isFull(s.now + 4*second) // ends
	s.now += 5 * second
	s.sampled = s.now
	s.serves(3, slowly)
	s.failsUntilChecked()
	useless(time.Minute)
}
