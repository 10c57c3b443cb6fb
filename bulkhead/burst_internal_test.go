package bulkhead

import (
	"testing"
	"time"
)

const millisecond = int64(time.Millisecond)

// used returns a burst whose calls usually take that long, 0 before the first success.
func used(usual int64) burst {
	var b burst
	for range 100 {
		b.succeeded(0, usual)
	}
	return b
}

// The usual time is that of the first success, and then a moving average over 32 of them. Calls
// that are not timed do not change it.
func TestBurst_usual(t *testing.T) {
	var b burst
	b.succeeded(0, 0)
	if b.usual != 0 {
		t.Errorf("usual %v after a call that is not timed", b.usual)
	}
	b.succeeded(0, 64)
	if b.usual != 64 {
		t.Errorf("usual %v after the first success", b.usual)
	}
	b.succeeded(0, 128)
	b.succeeded(0, 0)
	if b.usual != 66 {
		t.Errorf("usual %v, want 66", b.usual)
	}
}

// Calls that hang are evidence from the third timeout on, also if no call has succeeded yet.
func TestBurst_admits_timedOut(t *testing.T) {
	for _, usual := range []int64{0, millisecond} {
		for timeouts, want := range []bool{true, true, true, false, false} {
			b := used(usual)
			if got := b.admits(second, 24, 24, flow{30, 0, int64(timeouts)}, second); got != want {
				t.Errorf("usual %d, %d of 30 calls timed out: %v", usual, timeouts, got)
			}
		}
	}
}

// At least 24 calls are evidence. A third of 24 must have answered, and of many a quarter.
func TestBurst_hang(t *testing.T) {
	for _, tt := range []struct {
		admitted, answered int64
		want               bool
	}{
		{0, 0, false}, {23, 0, false}, {24, 0, true}, {24, 7, true}, {24, 8, false},
		{32, 9, true}, {32, 10, false}, {1000, 251, true}, {1000, 252, false},
	} {
		b := burst{began: flow{100, 90, 7}}
		if got := b.hang(flow{100 + tt.admitted, 90 + tt.answered, 7}); got != tt.want {
			t.Errorf("%d of %d calls have answered: %v", tt.answered, tt.admitted, got)
		}
	}
}

// Calls that time out are judged by the calls that were admitted with them, although those have
// ended long ago. Here half of 100 calls a second hang for ten seconds: as the calls that hang end,
// all ends in a row are timeouts.
func TestBurst_hang_order(t *testing.T) {
	b, timeout := used(20*millisecond), 10*second
	var f flow
	for i := range int64(1000) {
		f = flow{i + 1, (i + 1) / 2, 0}
		if !b.admits(i*10*millisecond, 24+i/2, 24, f, 0) {
			t.Fatalf("call %d is rejected", i)
		}
	}
	for i := range int64(500) {
		f.timeouts++
		b.move(timeout+i*20*millisecond, f, timeout)
		if b.hang(f) {
			t.Fatalf("timeout %d is evidence", i)
		}
	}
}

// The beginning moves to the present while three quarters of the calls answer.
func TestBurst_move_healthy(t *testing.T) {
	for answered, moves := range map[int64]bool{0: false, 74: false, 75: true, 100: true} {
		b, f := burst{}, flow{100, answered, 0}
		b.move(second, f, 0)
		if moved := b.began == f; moved != moves {
			t.Errorf("%d of 100 have answered: %+v", answered, b)
		}
	}
}

// The beginning is at least one timeout ago and at most two. A timeout counts as at least two
// seconds, and as 30 seconds if it is not known.
func TestBurst_move_old(t *testing.T) {
	for timeout, span := range map[int64]int64{0: 30 * second, 1: 2 * second, 2 * second: 2 * second, 10 * second: 10 * second} {
		b, first, f := burst{}, flow{100, 10, 1}, flow{200, 20, 2}
		b.move(span+1, first, timeout)
		if b.began != (flow{}) || b.next != first {
			t.Errorf("a timeout of %v: %+v", time.Duration(timeout), b)
		}
		b.move(2*span+1, f, timeout)
		if b.began != (flow{}) {
			t.Errorf("a timeout of %v: moved early: %+v", time.Duration(timeout), b)
		}
		b.move(2*span+2, f, timeout)
		if b.began != first || b.next != f {
			t.Errorf("a timeout of %v: moved late: %+v", time.Duration(timeout), b)
		}
		last := flow{300, 30, 3}
		b.move(4*span+3, last, timeout)
		if b.began != last {
			t.Errorf("a timeout of %v: the evidence does not expire: %+v", time.Duration(timeout), b)
		}
	}
}

// The slots may be exceeded for twice the usual time, at least 25 ms, however few calls end.
func TestBurst_admits_atFirst(t *testing.T) {
	for _, tt := range []struct{ usual, may int64 }{
		{1, 25 * millisecond}, {5 * millisecond, 25 * millisecond}, {12 * millisecond, 25 * millisecond},
		{13 * millisecond, 26 * millisecond}, {100 * millisecond, 200 * millisecond}, {10 * second, 20 * second},
	} {
		b, began := used(tt.usual), 100*second
		b.move(began, flow{}, 0)
		for _, d := range []int64{0, 1, tt.may, tt.may + 1, 10 * tt.may} {
			slots := int64(25)
			if d == 0 {
				slots = 24
			}
			if got := b.admits(began+d, slots, 24, flow{1000, 0, 0}, int64(time.Hour)); got != (d <= tt.may) {
				t.Errorf("usual %v: %v after %v", time.Duration(tt.usual), got, time.Duration(d))
			}
		}
	}
}

// Before the first success it is not known how long calls take, so that nothing is late.
func TestBurst_admits_beforeSuccess(t *testing.T) {
	var b burst
	for _, now := range []int64{0, second, int64(time.Hour)} {
		if !b.admits(now, max(24, 24+now), 24, flow{100 + now, 0, 0}, 0) && 24+now < mostSlots {
			t.Errorf("rejected after %v", time.Duration(now))
		}
	}
	if !b.admits(int64(time.Hour), mostSlots-1, 24, flow{mostSlots, 0, 0}, 0) {
		t.Error("rejected after an hour")
	}
}

// After that time, calls may exceed the slots unless those that are judged hang.
func TestBurst_admits_answered(t *testing.T) {
	for answered, want := range map[int64]bool{0: false, 26: false, 27: true, 100: true} {
		b := used(millisecond)
		b.admits(second, 24, 24, flow{24, 0, 0}, 0)
		if got := b.admits(2*second, 30, 24, flow{100, answered, 0}, 0); got != want {
			t.Errorf("%d of 100 have answered: %v", answered, got)
		}
	}
}

// If the number of slots is again the one that is wanted, that time begins again, unless a call has
// timed out.
func TestBurst_admits_beginsAgain(t *testing.T) {
	for _, wanted := range []int64{30, 31} {
		for timeouts, want := range []bool{true, false} {
			b, f := used(millisecond), flow{1200, 0, 3 * int64(timeouts)}
			b.admits(second, 24, 24, flow{1000, 0, 0}, 0)
			if b.admits(2*second, 30, 24, f, 0) {
				t.Fatal("admitted")
			}
			if got := b.admits(3*second, 30, wanted, f, 0); got != want {
				t.Errorf("%d wanted, %d timeouts: %+v", wanted, 3*timeouts, b)
			}
		}
	}
}

// A long healthy time is no credit for calls that hang.
func TestBurst_admits_noCredit(t *testing.T) {
	b := used(millisecond)
	b.admits(second, 24, 24, flow{0, 0, 0}, 0)
	if !b.admits(3600*second, 200, 24, flow{1_000_024, 1_000_000, 0}, 0) {
		t.Fatal("rejected although calls answer")
	}
	if b.admits(3600*second+1, 200, 24, flow{1_000_224, 1_000_000, 0}, 0) {
		t.Error("admitted although none of 200 calls has answered")
	}
}

// paused returns a burst after a pause of that length, which ended at the returned time.
func paused(pause int64) (b burst, now int64) {
	b = used(millisecond)
	b.succeeded(100*second, millisecond)
	b.admits(100*second+1, 24, 24, flow{100, 76, 0}, 0)
	now = 100*second + 1 + pause
	b.succeeded(now, millisecond)
	return b, now
}

// A silence of up to two seconds that ends with a success is a pause. After it the slots may be
// exceeded for a quarter longer and 25 ms, whatever else is evidence.
func TestBurst_admits_pause(t *testing.T) {
	for pause, learned := range map[int64]bool{
		25 * millisecond: false, 26 * millisecond: true, 400 * millisecond: true, 2 * second: true, 2*second + 1: false,
	} {
		for timeouts := range int64(2) {
			longest := pause*5/4 + 25*millisecond
			for _, passed := range []int64{0, pause, longest - 1, longest} {
				b, now := paused(pause)
				now += 3 * second
				b.admits(now, 24, 24, flow{200, 176, 0}, 0)
				want := learned && passed < longest || timeouts == 0 && passed <= 25*millisecond
				if got := b.admits(now+passed, 30, 24, flow{300, 176, 3 * timeouts}, 0); got != want {
					t.Errorf("%v after a pause of %v, with %d timeouts: %v", time.Duration(passed), time.Duration(pause), 3*timeouts, got)
				}
			}
		}
	}
}

// After a pause calls may exceed the slots for as long again, while those that waited are answered.
func TestBurst_admits_afterPause(t *testing.T) {
	for passed, want := range map[int64]bool{0: true, second - 1: true, second: false} {
		b, now := paused(second)
		if got := b.admits(now+passed, 30, 24, flow{300, 76, 3}, 0); got != want {
			t.Errorf("%v after a pause of a second: %v", time.Duration(passed), got)
		}
	}
}

// A clock that is set back ends the patience with a silence.
func TestBurst_admits_pauseClockSetBack(t *testing.T) {
	b, now := paused(second)
	b.admits(now, 24, 24, flow{200, 176, 0}, 0)
	if b.admits(now-int64(time.Hour), 25, 24, flow{300, 176, 3}, 0) {
		t.Error("admitted an hour before the silence began")
	}
}

// A pause is known for 30 s.
func TestBurst_admits_oldPause(t *testing.T) {
	for age, want := range map[int64]bool{halfLife - 1: true, halfLife: false} {
		b, now := paused(second)
		b.admits(now+age-1, 24, 24, flow{200, 176, 0}, 0)
		if got := b.admits(now+age, 25, 24, flow{300, 176, 3}, 0); got != want {
			t.Errorf("%v after a pause: %v", time.Duration(age), got)
		}
	}
}

// A silence of up to twice the usual time is no pause.
func TestBurst_pauseIsLong(t *testing.T) {
	for silence, learned := range map[int64]bool{200 * millisecond: false, 200*millisecond + 1: true} {
		b := used(100 * millisecond)
		b.admits(99*second, 24, 24, flow{100, 76, 0}, 0)
		b.succeeded(99*second+silence, 100*millisecond)
		if b.pause > 0 != learned {
			t.Errorf("a silence of %v: %+v", time.Duration(silence), b)
		}
	}
}

// A silence in which the slots sufficed is no pause, and neither is the time before the first
// success, nor one that begins when calls that are judged have timed out.
func TestBurst_noPause(t *testing.T) {
	b := used(millisecond)
	b.admits(99*second, 24, 24, flow{100, 76, 0}, 0)
	b.succeeded(99*second+millisecond, millisecond)
	b.succeeded(100*second, millisecond)
	if b.pause != 0 {
		t.Errorf("a silence with free slots: %+v", b)
	}
	b = burst{}
	b.admits(100*millisecond, 24, 24, flow{100, 76, 0}, 0)
	b.succeeded(second, millisecond)
	if b.pause != 0 {
		t.Errorf("the time before the first success: %+v", b)
	}
	b = used(millisecond)
	b.move(99*second, flow{}, 0)
	b.admits(99*second, 24, 24, flow{100, 0, 3}, 0)
	b.succeeded(100*second, millisecond)
	if b.pause != 0 {
		t.Errorf("calls time out: %+v", b)
	}
}

// There are never more than 10 000 slots without evidence.
func TestBurst_admits_mostSlots(t *testing.T) {
	var b burst
	for slots, want := range map[int64]bool{9_999: true, 10_000: false, 20_000: false} {
		if got := b.admits(second, slots, slots, flow{slots, 0, 0}, 0); got != want {
			t.Errorf("%d slots: %v", slots, got)
		}
	}
}

// However its methods are called, a burst has a finite state, and it does not admit a call with
// evidence.
func FuzzBurst(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		var b burst
		now, slots, timeout := int64(0), int64(24), int64(0)
		all, began, next := flow{24, 0, 0}, flow{}, flow{}
		exceeded, moved := int64(0), int64(0)
		quiet, pause, paused := int64(0), int64(0), int64(0)
		move := func() {
			span := 30 * second
			if timeout > 0 {
				span = max(2*second, timeout)
			}
			switch {
			case 4*(all.answered-began.answered) >= 3*(all.admitted-began.admitted) || now-moved > 2*span:
				began, next, moved = all, all, now
			case now-moved > span:
				began, next, moved = next, all, now
			}
		}
		for i := 0; i+1 < len(steps); i += 2 {
			what, x := steps[i], int64(steps[i+1])
			now += x << (what >> 2 & 31)
			switch what % 4 {
			case 0:
				if silence := now - quiet; quiet != 0 && b.usual > 0 && silence > max(25*millisecond, int64(2*b.usual)) && silence <= 2*second {
					pause, paused = silence, now
				}
				b.succeeded(now, x<<(what>>3))
				quiet = 0
			case 1:
				ended := min(all.admitted-all.answered-all.timeouts, x)
				if x%5 == 0 {
					all.timeouts += ended
					timeout = x << (what >> 2 & 31)
				} else {
					all.answered += ended
				}
				slots = max(24, slots-x)
				move()
				b.move(now, all, timeout)
			default:
				move()
				timedOut := all.timeouts >= began.timeouts+3
				if slots == 24 {
					exceeded = now
					if quiet == 0 && !timedOut {
						quiet = now
					}
				}
				got := b.admits(now, slots, 24, all, timeout)
				late := b.usual > 0 && now-exceeded > max(25*millisecond, int64(2*b.usual))
				admitted, answered := all.admitted-began.admitted, all.answered-began.answered
				hang := admitted >= 24 && 4*answered < admitted+8
				pauses := pause > 0 && now-paused < 30*second && (now-paused < pause || quiet != 0 && now-quiet < pause*5/4+25*millisecond)
				if got != (slots < 10_000 && (pauses || !hang || !timedOut && !late)) {
					t.Fatalf("step %d: %v with %+v: %+v", i/2, got, all, b)
				}
				if got {
					slots, all.admitted = slots+1, all.admitted+1
				}
			}
			if !finite(b.usual) {
				t.Fatalf("step %d: %+v", i/2, b)
			}
		}
	})
}
