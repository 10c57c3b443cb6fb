package search_test

import (
	"testing"

	"github.com/resilience-go/resilience/limit/internal/search"
)

// A search without any request limits nothing.
func TestSearch_isOpenAtFirst(t *testing.T) {
	s := search.New(most, false)
	if s.Limited() || s.Level() != most || s.Overload() {
		t.Errorf("limited %v, level %d", s.Limited(), s.Level())
	}
}

// A handler with less load than it can serve has no limit and no trial.
func TestSearch_leavesAHealthyHandlerAlone(t *testing.T) {
	h := newServer(100, 10*ms)
	h.runUntil(.9, 20*sec, func() bool {
		if h.Limited() {
			t.Fatalf("limit %d at %d ms", h.Level(), h.now/ms)
		}
		return false
	})
	if n := h.trials(); n > 0 {
		t.Errorf("%d trials", n)
	}
}

// Once requests are slow and more arrive than are answered, no more requests enter than leave.
func TestSearch_holdsWhenItSuspectsAnOverload(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	if !h.runUntil(2, sec, h.Limited) {
		t.Fatal("no limit")
	}
	if n := h.inFlight(); h.Level() > n || h.Level() < n-1 {
		t.Errorf("level %d with %d requests", h.Level(), n)
	}
	if n := h.inFlight(); n > 60 {
		t.Errorf("%d requests are in the handler of 10 workers", n)
	}
}

// A handler that is 2.5 times slower has no limit: it needs no more requests than a trial would
// let in.
func TestSearch_doesNotSuspectTooFewRequests(t *testing.T) {
	h := newServer(0, 10*ms)
	h.send(ms, 5*sec, never)
	h.work = 25 * ms
	for range 20 {
		h.send(ms, 100*ms, func() bool {
			if h.Limited() {
				t.Fatalf("level %d", h.Level())
			}
			return false
		})
		h.send(3*ms, 100*ms, h.Limited)
	}
}

// The first trial is of twice the number that Little's law asks for, 10. The limit is then
// proven, and the handler is in full use.
func TestSearch_provesALimit(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	h.runUntil(2, sec, h.Limited)
	held := h.Level()
	h.runUntil(2, sec, func() bool { return h.Level() != held })
	if h.Level() < 20 || h.Level() > 22 {
		t.Errorf("the first trial is of %d", h.Level())
	}
	if !h.runUntil(2, sec, h.Overload) {
		t.Fatal("no overload")
	}
	if r := h.Results(); r.Lowered != 1 {
		t.Errorf("%+v", r)
	}
	h.useful = 0
	h.run(2, 10*sec)
	if h.useful < 9900 {
		t.Errorf("%d of 10000 useful requests", h.useful)
	}
	if knee := h.Knee(); knee < 9 || knee > 15 {
		t.Errorf("knee %.1f", knee)
	}
}

// A handler without a queue whose requests become slower has a trial and then no limit. Until
// it becomes slower again, there is no other trial.
func TestSearch_opensForASlowDependency(t *testing.T) {
	h := newServer(0, 10*ms)
	h.patience = 10 * sec
	h.send(ms, 5*sec, never)
	for range 30 {
		h.work += 20 * ms
		h.send(ms, 100*ms, never)
	}
	h.send(ms, 20*sec, never)
	if r := h.Results(); r.NotLowered < 1 || r.NotLowered > 2 || r.Lowered != 0 {
		t.Fatalf("%+v", r)
	}
	limited := h.send(ms, 30*sec, h.Limited)
	if limited || h.trials() > 0 {
		t.Errorf("limit %d", h.Level())
	}
	h.send(ms, 60*sec, never)
	for range 20 { // it is slow only in comparison with what was before
		h.work += 20 * ms
		h.send(ms, 100*ms, never)
	}
	if h.trials() > 0 {
		t.Error("another trial")
	}
}

// A limit that a slow dependency has not got may be tried again only after a pause, and each
// pause is twice as long as the last one.
func TestSearch_pausesLongerAfterEachTrial(t *testing.T) {
	h := proven(10, 10*ms)
	h.Results()
	var ended []int64
	h.runUntil(2, 200*sec, func() bool {
		if h.trials() > 0 {
			ended = append(ended, h.now)
		}
		return false
	})
	if len(ended) < 6 || len(ended) > 20 {
		t.Fatalf("%d trials in 200 s", len(ended))
	}
	first, last := ended[1]-ended[0], ended[len(ended)-1]-ended[len(ended)-2]
	if first > 5*sec || last < 3*first || last < 12*sec || last > 60*sec {
		t.Errorf("pauses of %d to %d ms", first/ms, last/ms)
	}
}

// A proven limit is tried with half and with twice its value by turns.
func TestSearch_triesHalfAndTwice(t *testing.T) {
	h := proven(40, 10*ms)
	h.runUntil(2, 60*sec, func() bool { return h.trials() > 1 })
	limit, level, levels := 0, h.Level(), []int{}
	h.runUntil(2, 120*sec, func() bool {
		switch {
		case !h.Limited():
			t.Fatal("no limit")
		case h.trials() > 0:
			levels = append(levels, level)
			if level != limit/2 && level != 2*limit {
				t.Errorf("a trial of %d with a limit of %d", level, limit)
			}
			level = h.Level()
		case h.Level() != level:
			limit, level = level, h.Level()
		}
		return false
	})
	lower, higher := 0, 0
	for _, level := range levels {
		if level < 40 {
			lower++
		} else {
			higher++
		}
	}
	if lower < 2 || higher < 2 {
		t.Errorf("trials of %v", levels)
	}
}

// The search opens when a trial of twice the limit shows that more requests make more
// throughput.
func TestSearch_opensWhenMoreRequestsHelp(t *testing.T) {
	h := proven(10, 10*ms)
	h.workers = make([]int64, 80)
	h.Results()
	if !h.runUntil(2, 60*sec, func() bool { return !h.Limited() }) {
		t.Fatalf("limit %d", h.Level())
	}
	if r := h.Results(); r.Raised != 2 {
		t.Errorf("%+v", r)
	}
}

// When nothing useful completes for a second while requests are queued, the search opens. The
// next trial is after a pause.
func TestSearch_opensWhenNothingCompletes(t *testing.T) {
	h := proven(10, 10*ms)
	h.patience = 100 * sec
	began := h.now
	h.frozen = true
	if !h.runUntil(2, 5*sec, func() bool { return !h.Limited() }) {
		t.Fatal("limit")
	}
	if took := h.now - began; took < 950*ms || took > 1100*ms {
		t.Errorf("opens after %d ms", took/ms)
	}
	h.Results()
	h.frozen = false
	opened := h.now
	if h.runUntil(2, 60*sec, h.Limited) && h.now-opened < 4*sec {
		t.Errorf("limited after %d ms", (h.now-opened)/ms)
	}
}

// Each time that the search opens because it helps nobody, it stays open for longer.
func TestSearch_staysOpenForLongerEachTime(t *testing.T) {
	h := proven(10, 10*ms)
	var pauses [2]int64
	for i := range pauses {
		h.frozen = true
		if !h.runUntil(2, 20*sec, func() bool { return !h.Limited() }) {
			t.Fatal("limit")
		}
		h.frozen = false
		opened := h.now
		if !h.runUntil(2, 100*sec, h.Limited) {
			t.Fatal("no limit")
		}
		pauses[i] = h.now - opened
	}
	if pauses[1] < pauses[0]*3/2 {
		t.Errorf("pauses of %d ms", pauses)
	}
}

// When nothing leaves during a first trial for a second, the search opens.
func TestSearch_opensWhenATrialStops(t *testing.T) {
	h := newServer(10, 10*ms)
	h.run(.5, 2*sec)
	h.runUntil(2, sec, h.Limited)
	held := h.Level()
	h.runUntil(2, sec, func() bool { return h.Level() < held })
	began := h.now
	h.frozen = true
	if !h.runUntil(2, 5*sec, func() bool { return !h.Limited() }) {
		t.Fatal("limit")
	}
	if took := h.now - began; took > 3*sec {
		t.Errorf("opens after %d ms", took/ms)
	}
	if r := h.Results(); r.Inconclusive != 1 {
		t.Errorf("%+v", r)
	}
}

// The search opens when no request has been queued for a second.
func TestSearch_opensWhenNothingIsQueued(t *testing.T) {
	h := proven(10, 10*ms)
	began := h.now
	if !h.runUntil(.5, 5*sec, func() bool { return !h.Limited() }) {
		t.Fatal("limit")
	}
	if took := h.now - began; took < 950*ms || took > 1500*ms {
		t.Errorf("opens after %d ms", took/ms)
	}
}

// A proof ends when the throughput changes by half: a trial of twice the limit begins at once.
func TestSearch_triesAgainWhenTheThroughputChanges(t *testing.T) {
	for _, work := range []int64{3 * ms, 30 * ms} {
		h := proven(10, 10*ms)
		h.run(2, 60*sec) // pauses are long now
		h.trials()
		h.runUntil(2, 60*sec, func() bool { return h.trials() > 0 })
		limit, rate := h.Level(), 10*ms/20
		h.work = work
		h.send(min(rate, work/20), 3*sec, func() bool { return h.Level() > limit || !h.Limited() })
		if h.Limited() && h.Level() != 2*limit {
			t.Errorf("work of %d ms: level %d with a limit of %d", work/ms, h.Level(), limit)
		}
	}
}

// Slow uploads count against a proven limit for two laps of eight service times at most, and
// not again when they leave.
func TestSearch_doesNotCountLastingRequests(t *testing.T) {
	h := proven(10, 10*ms)
	limit := h.Level()
	h.upload(3 * limit)
	h.run(2, 500*ms)
	if h.Level() <= 3*limit {
		t.Errorf("level %d with %d uploads and a limit of %d", h.Level(), 3*limit, limit)
	}
	h.useful = 0
	h.run(2, sec)
	if h.useful < 950 {
		t.Errorf("%d of 1000 useful requests", h.useful)
	}
	h.leaveUploads()
	h.run(2, sec)
	if h.Level() > 2*limit {
		t.Errorf("level %d with a limit of %d", h.Level(), limit)
	}
}

// Slow uploads that keep a first trial from reaching its level do not count any more.
func TestSearch_goesOnWithSlowUploads(t *testing.T) {
	h := newServer(10, 30*ms)
	h.run(.5, 2*sec)
	h.upload(300)
	h.runUntil(2, 2*sec, h.Limited)
	began := h.now
	if !h.runUntil(2, 10*sec, h.Overload) {
		t.Fatal("no proof")
	}
	if took := h.now - began; took > 2*sec {
		t.Errorf("a proof after %d ms", took/ms)
	}
}

// With three times the load of a handler that is 2.9 times slower without a queue, a hold is too
// low for a trial. It rises, so requests are not queued for long.
func TestSearch_raisesAHoldThatIsTooLow(t *testing.T) {
	h := newServer(0, 10*ms)
	h.send(ms, 5*sec, never)
	h.work = 29 * ms
	h.send(ms, sec, never)
	h.send(ms/3, 5*sec, func() bool {
		if len(h.queue) > 0 && h.now-h.queue[0] > 500*ms {
			t.Fatalf("a request is queued for 500 ms, level %d", h.Level())
		}
		return false
	})
}

// A handler is not watched while it has few requests. The number from which on it is grows
// with a healthy load, and falls with less.
func TestSearch_watchesCrowds(t *testing.T) {
	h := newServer(1000, 10*ms)
	if h.WatchFrom() != 32 || !h.Rare() {
		t.Fatalf("watched from %d, rare %v", h.WatchFrom(), h.Rare())
	}
	h.run(.02, 2*sec)
	if h.watched || h.WatchFrom() != 32 {
		t.Errorf("watched %v from %d", h.watched, h.WatchFrom())
	}
	if h.Rare() {
		t.Error("2000 requests a second are rare")
	}
	h.run(.1, 2*sec)
	if h.watched || h.WatchFrom() < 150 || h.WatchFrom() > 250 {
		t.Errorf("watched %v from %d", h.watched, h.WatchFrom())
	}
	h.run(.01, 5*sec)
	if h.WatchFrom() > 40 {
		t.Errorf("watched from %d", h.WatchFrom())
	}
}

// Samples of slow requests make the handler watched, if more than a few are in it.
func TestSearch_watchesSlowRequests(t *testing.T) {
	for _, inFlight := range []int{3, 4} {
		s := search.New(most, false)
		now := sec
		for range 1000 {
			now += ms
			if s.Sample(now, 10*ms, true, 1, inFlight) {
				t.Fatal("watched")
			}
		}
		watched := false
		for range 100 {
			now += ms
			watched = watched || s.Sample(now, 30*ms, false, 1, inFlight)
		}
		if watched != (inFlight == 4) {
			t.Errorf("%d in flight: watched %v", inFlight, watched)
		}
	}
}

// A reached Config.Max is a proof.
func TestSearch_takesTheMaximumAsProven(t *testing.T) {
	for _, most := range []int{2, 10} {
		h := newServer(20, 10*ms)
		s := search.New(most, false)
		h.Search = &s
		h.run(.05, 3*sec)
		if !h.runUntil(2, sec, h.Overload) {
			t.Fatal("no overload")
		}
		h.runUntil(2, 30*sec, func() bool {
			if h.Level() > most || h.Level() < min(4, most) {
				t.Fatalf("level %d", h.Level())
			}
			return false
		})
	}
}

// In shadow mode there is an overload but no trial.
func TestSearch_inShadowHasNoTrials(t *testing.T) {
	h := newServer(10, 10*ms)
	s := search.New(most, true)
	h.Search = &s
	h.shadow = true
	h.run(.5, 2*sec)
	if !h.runUntil(2, 5*sec, h.Overload) {
		t.Fatal("no overload")
	}
	if h.Level() < 20 || h.Level() > 25 {
		t.Errorf("level %d", h.Level())
	}
	h.run(2, 10*sec)
	if h.trials() > 0 {
		t.Error("a trial")
	}
}

// Results returns each trial once.
func TestSearch_resultsAreReturnedOnce(t *testing.T) {
	h := proven(10, 10*ms)
	if h.Results() == (search.Trials{}) || h.Results() != (search.Trials{}) {
		t.Error("none, or twice")
	}
}

// The limit is never below four requests, however few the handler needs.
func TestSearch_neverLimitsToLessThanFour(t *testing.T) {
	h := newServer(1, 10*ms)
	h.run(.5, 5*sec)
	proven := false
	h.runUntil(2, 60*sec, func() bool {
		proven = proven || h.Overload()
		if h.Level() < 4 {
			t.Fatalf("level %d", h.Level())
		}
		return false
	})
	if !proven {
		t.Error("no overload")
	}
}
