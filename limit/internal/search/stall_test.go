package search_test

import "testing"

// After the clock was set back or forward, a proven limit stays, without a pause and without
// what a stall would do.
func TestSearch_restartsWithTheClock(t *testing.T) {
	for _, step := range []int64{-20 * sec, 3600 * sec} {
		h := proven(10, 10*ms)
		h.run(2, 30*sec)
		h.inside, h.queue, h.workers = nil, nil, make([]int64, 10)
		h.now += step
		if step < 0 {
			h.Restart(h.now, h.inFlight())
		} else {
			h.Tick(h.now, 10, 10)
		}
		if !h.Limited() || h.Stalled(h.now) {
			t.Errorf("%d s: limited %v, stalled %v", step/sec, h.Limited(), h.Stalled(h.now))
		}
		h.ticked = 0
		if !h.runUntil(2, 2*sec, func() bool { return h.trials() > 0 }) {
			t.Errorf("%d s: no trial within two seconds", step/sec)
		}
	}
}

// An overload goes on after the clock was set, so the queue stays short.
func TestSearch_keepsTheOverloadWhenTheClockIsSet(t *testing.T) {
	for _, step := range []int64{-20 * sec, -3600 * sec, 3600 * sec} {
		h := proven(10, 10*ms)
		h.run(2, 3*sec)
		h.now += step
		h.inside, h.ticked = nil, h.now
		for i := range h.workers {
			h.workers[i] = h.now
		}
		for i := range h.queue {
			h.queue[i] += step
		}
		h.Restart(h.now, h.inFlight())
		h.run(2, sec)
		h.runUntil(2, 10*sec, func() bool {
			if len(h.queue) > 500 {
				t.Fatalf("%d s: %d requests are queued, overload %v", step/sec, len(h.queue), h.Overload())
			}
			return false
		})
	}
}

// A handler has stalled when nothing useful completes for twice the service time and at least
// 50 ms. What the stall has left is served for twice as long as the stall lasted.
func TestSearch_stalls(t *testing.T) {
	h := proven(10, 10*ms)
	h.frozen = true
	began := h.now
	h.runUntil(2, sec, func() bool { return h.Stalled(h.now) })
	if took := h.now - began; took < 40*ms || took > 60*ms {
		t.Errorf("stalled after %d ms", took/ms)
	}
	h.run(2, 250*ms)
	h.frozen = false
	h.run(2, 100*ms)
	if !h.Stalled(h.now) {
		t.Error("not stalled while it serves what is left")
	}
	h.run(2, 600*ms)
	if h.Stalled(h.now) {
		t.Error("stalled for twice as long as it was")
	}
}

// A handler without requests has not stalled, however long that lasts.
func TestSearch_isNotStalledByANight(t *testing.T) {
	h := proven(10, 10*ms)
	h.run(.1, 10*ms)
	for len(h.inside) > 0 {
		h.now = h.inside[0].done
		h.leave()
	}
	h.now += 8 * 3600 * sec
	h.run(.5, sec)
	h.run(2, 2*sec)
	if h.Stalled(h.now) || !h.Overload() {
		t.Errorf("stalled %v, overload %v", h.Stalled(h.now), h.Overload())
	}
}

// A first trial that a stall interrupts measures again.
func TestSearch_repeatsAFirstTrialThatStalls(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	h.runUntil(2, sec, h.Limited)
	held := h.Level()
	h.runUntil(2, sec, func() bool { return h.Level() < held })
	h.runUntil(2, sec, func() bool { return h.inFlight() <= h.Level() })
	h.stall()
	if h.trials() > 0 {
		t.Error("the trial has ended")
	}
	h.run(2, 100*ms)
	if r := h.Results(); r.Lowered != 1 || r.Inconclusive > 0 {
		t.Errorf("%+v", r)
	}
}

// The result of a trial of a proven limit that a stall interrupts is not used.
func TestSearch_abandonsATrialThatStalls(t *testing.T) {
	h := proven(10, 10*ms)
	limit := h.Level()
	if !h.runUntil(2, 20*sec, func() bool { return h.Level() < limit }) {
		t.Fatal("no trial")
	}
	h.Results()
	h.stall()
	if r := h.Results(); r.Inconclusive != 1 || r.Lowered+r.NotLowered > 0 {
		t.Errorf("%+v", r)
	}
}

// A held handler that becomes idle for a night has not stalled after it.
func TestSearch_isNotStalledByANightInAHold(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	h.runUntil(2, sec, h.Limited)
	for len(h.inside) > 0 {
		h.now = max(h.now, h.inside[0].done)
		h.leave()
	}
	h.now += 8 * 3600 * sec
	h.run(.5, 300*ms)
	h.Watch(h.now, h.inFlight())
	if h.Stalled(h.now) {
		t.Error("stalled")
	}
}
