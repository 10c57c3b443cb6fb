package bulkhead

import (
	"math"
	"testing"
	"time"
)

const millisecond = int64(time.Millisecond)

// used returns a burst whose calls usually take that long, 0 before the first success.
func used(usual int64) burst {
	b := newBurst()
	for range 100 {
		b.succeeded(0, usual)
	}
	return b
}

// The usual time is that of the first success, and then a moving average over 32 of them. Calls
// that are not timed do not change it.
func TestBurst_usual(t *testing.T) {
	b := newBurst()
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

// If over a fifth of the recent calls have timed out, that is evidence for 30 s after the last
// timeout, also if no call has succeeded yet.
func TestBurst_admits_timedOut(t *testing.T) {
	for _, usual := range []int64{0, millisecond} {
		for _, tt := range []struct {
			passed int64
			share  float64
			want   bool
		}{
			{0, 0.21, false}, {0, 1, false}, {halfLife - 1, 0.21, false}, {halfLife, 0.21, true}, {halfLife, 1, true},
			{0, 0, true}, {0, 0.2, true}, {halfLife - 1, 0.2, true},
		} {
			b := used(usual)
			b.timedOut = 7 * second
			if got := b.admits(7*second+tt.passed, 24, 24, flow{100, 0}, tt.share); got != tt.want {
				t.Errorf("usual %d, a share of %v, %v after a timeout: %v", usual, tt.share, time.Duration(tt.passed), got)
			}
		}
	}
}

// Without a timeout there is no evidence, at any time and whatever the share is.
func TestBurst_admits_noTimeout(t *testing.T) {
	for _, now := range []int64{0, 1, halfLife, math.MaxInt64 / 2} {
		b := newBurst()
		if !b.admits(now, 24, 24, flow{24, 0}, 1) {
			t.Errorf("a burst is rejected at %d", now)
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
		for _, d := range []int64{0, 1, tt.may, tt.may + 1, 10 * tt.may} {
			slots := int64(25)
			if d == 0 {
				slots = 24
			}
			if got := b.admits(began+d, slots, 24, flow{1000 + d, 976}, 0); got != (d <= tt.may) {
				t.Errorf("usual %v: %v after %v", time.Duration(tt.usual), got, time.Duration(d))
			}
		}
	}
}

// Before the first success it is not known how long calls take, so that nothing is late.
func TestBurst_admits_beforeSuccess(t *testing.T) {
	b := newBurst()
	for _, now := range []int64{0, second, int64(time.Hour)} {
		if !b.admits(now, max(24, 24+now), 24, flow{100 + now, 0}, 0) && 24+now < mostSlots {
			t.Errorf("rejected after %v", time.Duration(now))
		}
	}
	if !b.admits(int64(time.Hour), mostSlots-1, 24, flow{mostSlots, 0}, 0) {
		t.Error("rejected after an hour")
	}
}

// After that time, calls may exceed the slots as long as three quarters of those that were
// admitted since the slots were exceeded have ended.
func TestBurst_admits_ended(t *testing.T) {
	for _, tt := range []struct {
		ended int64
		want  bool
	}{{0, false}, {74, false}, {75, true}, {100, true}} {
		b := used(millisecond)
		b.admits(second, 24, 24, flow{1000, 976}, 0)
		if got := b.admits(2*second, 30, 24, flow{1100, 976 + tt.ended}, 0); got != tt.want {
			t.Errorf("%d of 100 have ended: %v", tt.ended, got)
		}
	}
}

// If the number of slots is again the one that is wanted, exceeding it begins anew.
func TestBurst_admits_beginsAnew(t *testing.T) {
	b := used(millisecond)
	b.admits(second, 24, 24, flow{1000, 976}, 0)
	if b.admits(2*second, 30, 24, flow{1100, 976}, 0) {
		t.Fatal("admitted")
	}
	for _, wanted := range []int64{30, 31} {
		if !b.admits(3*second, 30, wanted, flow{1200, 976}, 0) || b.at != 3*second || b.began != (flow{1200, 976}) {
			t.Errorf("%d wanted: %+v", wanted, b)
		}
	}
	if !b.admits(3*second+millisecond, 31, 30, flow{1300, 976}, 0) {
		t.Error("rejected within twice the usual time")
	}
}

// If calls have ended as fast as they came, the slots are as if exceeded from now on: a long
// healthy time before is no credit for calls that hang.
func TestBurst_admits_noCredit(t *testing.T) {
	b := used(millisecond)
	b.admits(second, 24, 24, flow{0, 0}, 0)
	if !b.admits(3600*second, 200, 24, flow{1_000_024, 1_000_000}, 0) {
		t.Fatal("rejected although calls end")
	}
	if !b.admits(3600*second+25*millisecond, 200, 24, flow{1_000_224, 1_000_000}, 0) {
		t.Error("rejected within 25 ms")
	}
	if b.admits(3600*second+25*millisecond+1, 200, 24, flow{1_000_224, 1_000_000}, 0) {
		t.Error("admitted after 25 ms in which no call ended")
	}
}

// paused returns a burst after a pause of that length, which ended at the returned time.
func paused(pause int64) (b burst, now int64) {
	b = used(millisecond)
	b.succeeded(100*second, millisecond)
	b.admits(100*second+1, 24, 24, flow{100, 76}, 0)
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
		for _, share := range []float64{0, 1} {
			longest := pause*5/4 + 25*millisecond
			for _, passed := range []int64{0, pause, longest - 1, longest} {
				b, now := paused(pause)
				now += 3 * second
				b.admits(now, 24, 24, flow{200, 176}, 0)
				b.timedOut = now
				want := learned && passed < longest || share == 0 && passed <= 25*millisecond
				if got := b.admits(now+passed, 30, 24, flow{300, 176}, share); got != want {
					t.Errorf("%v after a pause of %v, with a share of %v: %v", time.Duration(passed), time.Duration(pause), share, got)
				}
			}
		}
	}
}

// After a pause calls may exceed the slots for as long again, while those that waited are answered.
func TestBurst_admits_afterPause(t *testing.T) {
	for passed, want := range map[int64]bool{0: true, second - 1: true, second: false} {
		b, now := paused(second)
		b.timedOut = now
		if got := b.admits(now+passed, 30, 24, flow{200, 176}, 1); got != want {
			t.Errorf("%v after a pause of a second: %v", time.Duration(passed), got)
		}
	}
}

// A clock that is set back ends the patience with a silence.
func TestBurst_admits_pauseClockSetBack(t *testing.T) {
	b, now := paused(second)
	b.admits(now, 24, 24, flow{200, 176}, 0)
	b.timedOut = now - int64(time.Hour)
	if b.admits(now-int64(time.Hour), 25, 24, flow{201, 176}, 1) {
		t.Error("admitted an hour before the silence began")
	}
}

// A pause is known for 30 s.
func TestBurst_admits_oldPause(t *testing.T) {
	for age, want := range map[int64]bool{halfLife - 1: true, halfLife: false} {
		b, now := paused(second)
		b.admits(now+age-1, 24, 24, flow{200, 176}, 0)
		b.timedOut = now + age
		if got := b.admits(now+age, 25, 24, flow{201, 176}, 1); got != want {
			t.Errorf("%v after a pause: %v", time.Duration(age), got)
		}
	}
}

// A silence of up to twice the usual time is no pause.
func TestBurst_pauseIsLong(t *testing.T) {
	for silence, learned := range map[int64]bool{200 * millisecond: false, 200*millisecond + 1: true} {
		b := used(100 * millisecond)
		b.admits(99*second, 24, 24, flow{100, 76}, 0)
		b.succeeded(99*second+silence, 100*millisecond)
		if b.pause > 0 != learned {
			t.Errorf("a silence of %v: %+v", time.Duration(silence), b)
		}
	}
}

// A silence in which the slots sufficed is no pause, and neither is the time before the first
// success, nor one that begins with evidence of timeouts.
func TestBurst_noPause(t *testing.T) {
	b := used(millisecond)
	b.admits(99*second, 24, 24, flow{100, 76}, 0)
	b.succeeded(99*second+millisecond, millisecond)
	b.succeeded(100*second, millisecond)
	if b.pause != 0 {
		t.Errorf("a silence with free slots: %+v", b)
	}
	b = newBurst()
	b.admits(100*millisecond, 24, 24, flow{100, 76}, 0)
	b.succeeded(second, millisecond)
	if b.pause != 0 {
		t.Errorf("the time before the first success: %+v", b)
	}
	b = used(millisecond)
	b.timedOut = 99 * second
	b.admits(99*second, 24, 24, flow{100, 76}, 1)
	b.succeeded(100*second, millisecond)
	if b.pause != 0 {
		t.Errorf("calls time out: %+v", b)
	}
}

// There are never more than 10 000 slots without evidence.
func TestBurst_admits_mostSlots(t *testing.T) {
	b := newBurst()
	for slots, want := range map[int64]bool{9_999: true, 10_000: false, 20_000: false} {
		if got := b.admits(second, slots, slots, flow{slots, 0}, 0); got != want {
			t.Errorf("%d slots: %v", slots, got)
		}
	}
}

// However its methods are called, a burst has a finite state, and it does not admit a call with
// evidence.
func FuzzBurst(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		b := newBurst()
		now, slots, ended, admitted := int64(0), int64(24), int64(0), int64(24)
		exceeded, began := int64(0), flow{}
		quiet, pause, paused := int64(0), int64(0), int64(0)
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
				if x < 20 {
					b.timedOut = now
				}
				ended = min(admitted, ended+x)
				slots = max(24, slots-x)
			default:
				share := float64(x) / 255
				hangs := now-b.timedOut < 30*second && share > 0.2
				if slots == 24 {
					exceeded, began = now, flow{admitted, ended}
					if quiet == 0 && !hangs {
						quiet = now
					}
				}
				got := b.admits(now, slots, 24, flow{admitted, ended}, share)
				late := b.usual > 0 && now-exceeded > max(25*millisecond, int64(2*b.usual))
				few := 4*(ended-began.answered) < 3*(admitted-began.admitted)
				pauses := pause > 0 && now-paused < 30*second && (now-paused < pause || quiet != 0 && now-quiet < pause*5/4+25*millisecond)
				if got != (slots < 10_000 && (pauses || !hangs && !(late && few))) {
					t.Fatalf("step %d: %v with a share of %v: %+v", i/2, got, share, b)
				}
				if got {
					if late && !pauses {
						exceeded, began = now, flow{admitted, ended}
					}
					slots, admitted = slots+1, admitted+1
				}
			}
			if !finite(b.usual) {
				t.Fatalf("step %d: %+v", i/2, b)
			}
		}
	})
}
