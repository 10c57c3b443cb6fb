package search_test

import (
	"testing"

	"github.com/resilience-go/resilience/limit/internal/search"
)

// An overload lasts while more requests arrive than are useful, although rejections keep the queue
// short. It ends soon after that.
func TestSearch_overloadEndsWithThePressure(t *testing.T) {
	h := proven(10, 10*ms)
	if !h.Overload() {
		t.Fatal("no overload")
	}
	for range 100 { // gusts of 80 ms, whose overdue requests are rejected before the next one
		h.run(1.6, 80*ms)
		h.run(.8, 40*ms)
		if !h.Overload() {
			t.Fatal("the overload ends while requests are rejected")
		}
	}
	began := h.now
	h.runUntil(.9, sec, func() bool { return !h.Overload() })
	if h.Overload() || h.now == began {
		t.Errorf("overload %v after %d ms", h.Overload(), (h.now-began)/ms)
	}
	h.run(.9, 300*ms)
	for h.now < began+3*sec/2 && h.Limited() { // bursts of 100 ms
		h.runUntil(2, 100*ms, func() bool {
			if h.Overload() {
				t.Fatal("overload after 100 ms")
			}
			return false
		})
		h.run(.3, 200*ms)
	}
}

// Bursts that are answered before the next one are no overload, wherever in a window the pause
// between two of them falls.
func TestSearch_pausesAreNoPressure(t *testing.T) {
	for size := 300; size < 700; size += 7 {
		h := proven(10, 10*ms)
		h.patience = 5 * sec
		h.runUntil(.5, 5*sec, func() bool { return !h.Overload() })
		for range 20 {
			h.send(10_000, int64(size)*10_000, h.Overload)
			if h.Overload() {
				t.Fatalf("%d at once are an overload at %d ms", size, h.now/ms)
			}
			rest := sec - int64(size)*10_000
			h.send(rest, 2*rest, never)
		}
	}
}

// A load that swings around the capacity is no overload while the handler needs less than a fifth
// of a second for the queue. It is one while it needs longer.
func TestSearch_shortQueuesAreNoOverload(t *testing.T) {
	for _, turn := range []int64{500 * ms, 2500 * ms} {
		h := newServer(10, 10*ms)
		h.patience = 5 * sec
		h.run(.5, 2*sec)
		h.runUntil(1.5, 400*ms, func() bool { return h.trials() > 0 })
		if !h.Limited() || h.Overload() {
			t.Errorf("limited %v, overload %v", h.Limited(), h.Overload())
		}
		h.run(.5, 500*ms)
		limited, overload := 0, false
		for range 20 {
			overload = h.runUntil(1.2, turn, h.Overload) || overload
			if h.Limited() {
				limited++
			}
			h.run(.5, turn)
		}
		if limited == 0 || overload != (turn > sec) {
			t.Errorf("turns of %d ms: %d limited, overload %v", turn/ms, limited, overload)
		}
	}
}

// A request may be queued for one service time in an overload, and for 12 ms at least.
func TestSearch_patienceIsTheServiceTime(t *testing.T) {
	if h := newServer(1, 2*ms); h.Patience() != 12*ms {
		t.Errorf("%d ms", h.Patience()/ms)
	}
	h := newServer(10, 100*ms)
	h.run(.5, 20*sec)
	if p := h.Patience(); p < 90*ms || p > 110*ms || p != h.ServiceTime() {
		t.Errorf("patience %d ms, service time %d ms", p/ms, h.ServiceTime()/ms)
	}
}

// A few requests that take a thousand times longer move neither the service time nor the limit.
func TestSearch_ignoresAFewSlowRequests(t *testing.T) {
	s := search.New(most, false)
	now := sec
	for i := range 10000 {
		now += ms
		took := 10 * ms
		if i%100 == 50 {
			took = 10 * sec
		}
		if s.Sample(now, took, true, 1, 10) {
			t.Fatal("watched")
		}
	}
	if took := s.ServiceTime(); took < 9*ms || took > 12*ms {
		t.Errorf("service time %d ms", took/ms)
	}
	watched := false
	for range 100 {
		now += ms
		watched = watched || s.Sample(now, 30*ms, true, 1, 10)
	}
	if !watched {
		t.Error("three times the service time is not slow")
	}
}

// A request that is no evidence and has left the handler is not lasting.
func TestSearch_forgetsRequestsOfNoEvidence(t *testing.T) {
	h := proven(10, 10*ms)
	limit := h.Level()
	h.forgets = true
	h.run(2, 500*ms)
	if h.Level() > limit+2 {
		t.Errorf("level %d with a limit of %d", h.Level(), limit)
	}
}

// The newest request goes first while more arrive than are useful, and the oldest once the
// queue is empty.
func TestSearch_newestFirstWhileItGrows(t *testing.T) {
	h := proven(10, 10*ms)
	h.run(2, sec)
	if !h.NewestFirst() {
		t.Error("oldest first in an overload")
	}
	h.runUntil(.5, sec, func() bool { return len(h.queue) == 0 })
	h.run(.5, 30*ms)
	if h.NewestFirst() {
		t.Error("newest first after it")
	}
}
