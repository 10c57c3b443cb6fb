package search_test

import "testing"

// processor lets the search know, before each decision, that requests wait as long for a
// processor as the handler has to work on those before them.
func (h *server) processor() bool {
	h.Waited(int64(h.inFlight()) * h.work / int64(len(h.workers)))
	return false
}

// If requests waited for a processor for most of their time, and with fewer in the handler for half
// as long, the limit is proven. The throughput does not matter.
func TestSearch_waitingForAProcessorIsProof(t *testing.T) {
	for name, waits := range map[string]bool{"the handler waits": false, "the processor is busy": true} {
		t.Run(name, func(t *testing.T) {
			h := newServer(10, 10*ms)
			h.run(.5, 2*sec)
			h.runUntil(2, sec, func() bool {
				if waits {
					h.processor()
				}
				return h.Overload()
			})
			if !h.Overload() || h.Level() != 20 {
				t.Fatalf("overload %v, level %d", h.Overload(), h.Level())
			}
			if r := h.Results(); r.Lowered != 1 || r.Inconclusive != 0 {
				t.Errorf("%+v", r)
			}
			if measured := h.Last().After != 0; measured == waits {
				t.Errorf("the throughput was measured: %v", measured)
			}
			h.useful = 0
			h.run(2, 10*sec)
			if h.useful < 9900 {
				t.Errorf("%d of 10000 useful requests", h.useful)
			}
		})
	}
}

// A dependency is slow, and something else keeps the processor busy. With fewer requests in the
// handler they wait as long for it, so no limit is proven.
func TestSearch_aProcessorThatOthersKeepBusy(t *testing.T) {
	h := newServer(0, 10*ms)
	h.patience = 10 * sec
	h.send(ms, 5*sec, never)
	busy := func() bool {
		h.Waited(h.work * 3 / 5)
		if h.Overload() {
			t.Fatal("an overload")
		}
		return false
	}
	for range 30 {
		h.work += 20 * ms
		h.send(ms, 100*ms, busy)
	}
	h.send(ms, 20*sec, busy)
	if r := h.Results(); h.Limited() || r.NotLowered == 0 || r.Lowered > 0 {
		t.Errorf("limit %d, %+v", h.Level(), r)
	}
}

// Slow uploads that came before the proof do not use it up.
func TestSearch_aBusyProcessorWithUploads(t *testing.T) {
	h := newServer(10, 10*ms)
	h.patience = 10 * sec
	h.run(.5, 2*sec)
	h.upload(30)
	h.send(ms/2, sec, h.processor)
	if !h.Overload() {
		t.Fatal("no overload")
	}
	h.useful = 0
	h.send(ms/2, 10*sec, h.processor)
	if h.useful < 9900 || !h.Overload() {
		t.Errorf("%d of 10000 useful requests, overload %v", h.useful, h.Overload())
	}
}

// A hold lets no more requests into the handler than leave it, however long they take.
func TestSearch_aHoldDoesNotGrow(t *testing.T) {
	h := newServer(0, 100*ms)
	h.patience = 10 * sec
	h.send(10*ms, 5*sec, never)
	h.work = 4 * sec
	h.send(10*ms, 3*sec, never)
	most := 0
	h.send(5*ms, 12*sec, func() bool {
		if !h.Limited() {
			return false
		}
		if most == 0 {
			most = h.inFlight()
		}
		if h.Level() > most || h.inFlight() > most {
			t.Fatalf("level %d with %d requests, of at first %d", h.Level(), h.inFlight(), most)
		}
		return h.Level() < most/2
	})
	if most == 0 {
		t.Fatal("no hold")
	}
}

// A busy process notices requests in lumps. What it answers while it works on one was queued
// inside the handler, so the time that took is not the uncontended one.
func TestSearch_learnsNothingFromABacklog(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	for range 20 {
		h.send(1000, 90*1000, never) // 90 at once
		h.send(100*ms, 200*ms, never)
	}
	h.runUntil(2, sec, h.Limited)
	held := h.Level()
	h.runUntil(2, sec, func() bool { return h.Level() < held })
	if h.Level() > 22 {
		t.Errorf("the first trial is of %d", h.Level())
	}
}

// A handler that has more load than it can serve from the beginning has a limit too, although
// its uncontended time is never seen.
func TestSearch_findsAnOverloadThatWasThereBefore(t *testing.T) {
	h := newServer(10, 50*ms)
	h.run(10, 10*sec)
	h.useful = 0
	h.run(10, 5*sec)
	if !h.Limited() || h.useful < 950 {
		t.Errorf("limit %d, %d of 1000 useful requests", h.Level(), h.useful)
	}
}
