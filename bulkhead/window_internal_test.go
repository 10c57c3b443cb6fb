package bulkhead

import (
	"testing"
	"time"
)

// While successes are slow, the window shrinks to 0.7 once in a round trip: by the first call
// that was admitted after it last shrank.
func TestCongestion_shrinks(t *testing.T) {
	s := narrowed(100)
	s.took = 0.55e9
	cut := s.n
	s.n += 50
	s.succeeded(s.now, int64(slowly), cut, s.n) // admitted before
	if s.window != 100 {
		t.Fatalf("window %v by a call from before the cut", s.window)
	}
	s.succeeded(s.now, int64(slowly), cut+1, s.n)
	if s.window != 70 || s.last != s.n {
		t.Fatalf("window %v, want 70", s.window)
	}
	for n := cut + 2; n <= s.n; n++ { // the others of the same round trip
		s.succeeded(s.now, int64(slowly), n, s.n+50)
	}
	if s.window != 70 {
		t.Errorf("window %v twice in a round trip", s.window)
	}
	s.serves(1, slowly)
	if s.window != 0.7*70 {
		t.Errorf("window %v, want 49", s.window)
	}
}

// The window never shrinks below one call.
func TestCongestion_window_atLeastOne(t *testing.T) {
	s := narrowed(2)
	for range 20 {
		s.serves(1, slowly)
		if s.window < 1 {
			t.Fatalf("window %v", s.window)
		}
	}
	if s.window != 1 {
		t.Errorf("window %v, want 1", s.window)
	}
	s.timeouts = 1
	s.fails(1)
	if s.window != 1 || !s.checking {
		t.Errorf("after a cut: %+v", s.congestion)
	}
}

// The window grows by one for each success while successes are quick, and else by one in a
// round trip.
func TestCongestion_grows(t *testing.T) {
	for _, tt := range []struct {
		took time.Duration
		by   float64
	}{{90 * time.Millisecond, 1}, {110 * time.Millisecond, 0.1}, {490 * time.Millisecond, 0.1}, {510 * time.Millisecond, -3}} {
		s := narrowed(10)
		s.took = float64(tt.took)
		s.serves(1, tt.took)
		if d := s.window - 10 - tt.by; d > 1e-9 || d < -1e-9 {
			t.Errorf("successes take %v: window %v, want it to change by %v", tt.took, s.window, tt.by)
		}
	}
	s := narrowed(10)
	s.serves(10, middling)
	if s.window < 10.9 || s.window > 11 {
		t.Errorf("window %v after a round trip", s.window)
	}
}

// If over 30 % time out again, the window is halved, from the calls in flight if those are
// fewer, and checked.
func TestCongestion_cutsAgain(t *testing.T) {
	for _, tt := range []struct {
		inFlight int64
		want     float64
	}{{100, 50}, {60, 30}, {1, 1}} {
		s := narrowed(100)
		s.inFlight = tt.inFlight
		s.timeouts = 0.2
		s.fails(1)
		if s.window != 100 || s.checking {
			t.Fatalf("cut at a share of %v", s.timeouts)
		}
		s.now += second
		s.fails(1)
		if s.window != tt.want || !s.checking || s.full != s.now {
			t.Errorf("%d in flight: %+v", tt.inFlight, s.congestion)
		}
	}
}

// Timeouts of calls that were admitted before the cut or the end of its check are no evidence.
func TestCongestion_cutsAgain_admittedBefore(t *testing.T) {
	s := overloaded(100, 400)
	cut := s.n
	for n := cut - 80; n <= cut; n++ {
		s.timedOut(s.now, second, n, s.n, 400, false)
	}
	if s.window != 100 {
		t.Errorf("cut twice: window %v", s.window)
	}
	s.n += 100 // in flight
	for n := cut + 1; n <= cut+8; n++ {
		s.succeeded(s.now, int64(middling), n, s.n)
	}
	s.timeouts = 1
	for n := cut + 9; n <= s.n; n++ {
		s.timedOut(s.now, second, n, s.n, 400, false)
	}
	if s.window != 100 || s.checking {
		t.Errorf("cut by calls from before the end of the check: %+v", s.congestion)
	}
	s.fails(1)
	if s.window != 50 {
		t.Errorf("not cut by a later call: window %v", s.window)
	}
}

// The congestion ends when no call has found the window full for three seconds.
func TestCongestion_ends(t *testing.T) {
	for _, checking := range []bool{false, true} {
		for _, d := range []int64{0, 2 * second, 3 * second, 3*second + 1, int64(time.Hour)} {
			s := narrowed(10)
			s.checking = checking
			if !s.isFull(s.now + second) {
				t.Fatal("a window is not full")
			}
			ended := d > 3*second
			if full := s.isFull(s.now + second + d); full == ended || s.checking && ended || (s.window == 0) != ended {
				t.Errorf("%v after the window was full: full %v, %+v", time.Duration(d), full, s.congestion)
			}
		}
	}
}

// A success ends the congestion in the same way, and not a call that finds a slot.
func TestCongestion_ends_success(t *testing.T) {
	for _, d := range []int64{3 * second, 3*second + 1} {
		s := narrowed(10)
		s.isFull(s.now)
		s.now += d
		s.serves(1, middling)
		if ended := d > 3*second; (s.window == 0) != ended {
			t.Errorf("%v after the window was full: window %v", time.Duration(d), s.window)
		}
	}
}

// That is so also during a check of which a call is missing.
func TestCongestion_ends_success_check(t *testing.T) {
	s := overloaded(100, 40)
	s.n++ // fails quickly
	for range 100 {
		s.now += second
		s.serves(1, quickly)
	}
	if s.window != 0 || s.checking {
		t.Errorf("goes on after 100 s in which the window was not full: %+v", s.congestion)
	}
}

// Without a window nothing is full.
func TestCongestion_isFull_none(t *testing.T) {
	var s stream
	if s.isFull(0) || s.isFull(int64(time.Hour)) || s.full != 0 {
		t.Errorf("%+v", s.congestion)
	}
}

// A congestion that has ended may begin again at once. The checks of the one before do not count.
func TestCongestion_begins_again(t *testing.T) {
	s := overloaded(100, 40)
	s.useless(2)
	s.useless(2)
	s.now += 10 * second
	s.isFull(s.now)
	s.serves(4, slowly)
	s.failsUntilChecked()
	s.useless(2)
	s.useless(2)
	if s.window != 10 || !s.checking {
		t.Errorf("%+v", s.congestion)
	}
}

// The numbers of the calls wrap.
func TestCongestion_numbersWrap(t *testing.T) {
	run := func(first int64) (windows []float64) {
		s := overloaded(first, 4000)
		step := func() { windows = append(windows, s.window) }
		step()
		s.fails(8)
		step()
		s.serves(7, middling)
		s.fails(5)
		s.serves(20, middling)
		step()
		for range 30 {
			s.serves(1, slowly)
			step()
			s.timedOut(s.now, second, s.n-40, s.n, 10, false)
			step()
		}
		s.fails(20)
		step()
		return windows
	}
	want := run(1000)
	for _, base := range []int64{1 << 31, 0} {
		for before := range int64(120) {
			got := run(base - before)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("from %d on: window %v in step %d, want %v", base-before, got[i], i, want[i])
				}
			}
		}
	}
}

// A congestion begins also if the first call that ever times out comes after 1<<31 others.
func TestCongestion_begins_lateNumber(t *testing.T) {
	for _, first := range []int64{1 << 30, 1<<31 + 100, 3 << 30, 1<<32 - 5} {
		var s stream
		for _, n := range []int64{0, first / 3, first / 3 * 2, first} { // a long life
			s.n = n
			s.serves(100, quickly)
		}
		s.inFlight = 40
		s.serves(8, slowly)
		s.fails(8)
		if s.window == 0 {
			t.Errorf("none begun with call %d: %+v", first, s.congestion)
		}
	}
}

// After a timeout each call is recorded, until about 18 others.
func TestCongestion_recent(t *testing.T) {
	var s stream
	if s.recent() {
		t.Error("a timeout is recent before the first one")
	}
	s.fails(1)
	calls := 0
	for ; s.recent() && calls < 1000; calls++ {
		s.serves(1, quickly)
	}
	if calls < 8 || calls > 40 {
		t.Errorf("recent for %d calls", calls)
	}
	n := narrowed(10)
	if n.timeouts = 0; !n.recent() {
		t.Error("not recent in a congestion")
	}
}

// However its methods are called, a congestion has a finite state: the window is 0 or at least
// 1, and checked only if there is one.
func FuzzCongestion(f *testing.F) {
	f.Add(int64(0), []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
	f.Add(int64(1<<32-3), []byte("\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x02\x02\x03\x03"))
	f.Fuzz(func(t *testing.T, n int64, steps []byte) {
		var c congestion
		now, rest, longest := int64(0), int64(0), int64(0)
		for i := 0; i+1 < len(steps); i += 2 {
			what, x := steps[i], int64(steps[i+1])
			now += (x * x * x) << (what >> 5) // up to two seconds
			took, back := x<<(what>>3), int64(x)%64
			n += int64(x) % 7
			before, own := c, what%8 == 1
			longest = max(longest, took)
			switch what % 4 {
			case 0, 1:
				c.timedOut(now, took, n-back, n, x, own)
			case 2:
				c.succeeded(now, took, n-back, n)
			case 3:
				if full := c.isFull(now); full != (c.window > 0) {
					t.Fatalf("full is %v: %+v", full, c)
				}
			}
			switch {
			case !finite(c.window) || !finite(c.took) || !finite(c.timeout) || !finite(c.timeouts) || c.timeouts > 1:
				t.Fatalf("step %d: %+v", i/2, c)
			case c.window != 0 && c.window < 1, c.checking && c.window == 0:
				t.Fatalf("step %d: %+v", i/2, c)
			case c.checking && (c.failed > c.checked || c.checked >= checkCalls || c.useless >= uselessTimeouts || c.useless < 0):
				t.Fatalf("step %d: %+v", i/2, c)
			case !finite(c.usual) || !finite(c.steady) || !finite(c.before) || c.holds > doublings:
				t.Fatalf("step %d: %+v", i/2, c)
			case c.rest < rest || c.rest > now+2*max(trustTime, trustTimeouts*longest)<<doublings || c.rests > doublings:
				t.Fatalf("step %d: %+v", i/2, c)
			case before.window == 0 && c.window > 0 && (now < c.rest || what%4 > 1 || own || float64(took) <= c.took):
				t.Fatalf("step %d: begun from %+v: %+v", i/2, before, c)
			case before.window == 0 && c.window > float64(x)/4:
				t.Fatalf("step %d: begun from %+v: %+v", i/2, before, c)
			}
			rest = c.rest
		}
	})
}
