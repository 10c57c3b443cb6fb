package limit

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
)

func succeed(context.Context) error { return nil }

// Below the limit, no request takes the lock.
func TestLimit_noLockBelowLimit(t *testing.T) {
	l := resilience.Must(New(Config{}))
	l.mu.Lock() // a request that takes it would hang
	entered := make([]int64, 0, 64)
	for range 64 {
		at, err := l.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		entered = append(entered, at)
	}
	if w := l.word.Load(); w&watchedBit != 0 || w&flightMask != 64 || w>>flightBits != 64 {
		t.Errorf("the word is %x", w)
	}
	l.mu.Unlock()
	for _, at := range entered {
		l.leave(at, true, false)
	}
	if w := l.word.Load(); w != 64<<flightBits || l.watched || l.machine.check.arrivals+l.machine.window.completions > 0 {
		t.Errorf("the word is %x, and the machine has heard of %+v", w, l.machine.window)
	}
}

func TestTheWordIsNotWatchedAnyMoreWhenTheLoadHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resilience.Must(New(Config{}))
		work := func(context.Context) error { time.Sleep(10 * time.Millisecond); return nil }
		for range 200 {
			go func() { _ = resilience.Run(context.Background(), l, work) }()
		}
		synctest.Wait()
		if w := l.word.Load(); w&watchedBit == 0 || w&flightMask != 64 {
			t.Errorf("the word is %x while 136 wait", w)
		}
		for range 400 {
			_ = resilience.Run(t.Context(), l, work)
		}
		if w := l.word.Load(); w&watchedBit != 0 || w&flightMask != 0 {
			t.Errorf("the word is %x after 4 s with one in flight", w)
		}
	})
}

func TestARefusalFurtherInIsNoThroughput(t *testing.T) {
	l := resilience.Must(New(Config{}))
	l.lock(0)
	l.watch()
	l.machine.bound = true // so that it goes on to watch
	l.unlock(t.Context())
	for range 50 {
		_ = resilience.Run(t.Context(), l, func(context.Context) error { return &resilience.Rejection{Policy: "inner"} })
	}
	if w := l.machine.window; w.completions != 0 || w.arrivals != 50 || !l.machine.pace.new {
		t.Errorf("the machine has seen %+v of 50 that were refused", w)
	}
	_ = resilience.Run(t.Context(), l, succeed)
	if l.machine.pace.new {
		t.Error("the machine has not seen one that was not refused")
	}
	if s := l.Stats(); s.Useful != 51 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// A request that finds the queue full while a trial of one slot ends is not rejected: the
// end of the trial makes room.
func TestLimit_queueFullWhileTrialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resilience.Must(New(Config{Max: 8, MaxQueue: 3}))
		leave := make(chan struct{})
		run := func() error {
			return resilience.Run(context.Background(), l, func(context.Context) error { <-leave; return nil })
		}
		l.lock(0)
		l.watch()
		l.machine.cycles = 1
		l.machine.test(l.now, false, 1)
		l.machine.level = 1
		l.unlock(t.Context())
		errs := make(chan error, 5)
		for range 4 {
			go func() { errs <- run() }()
			synctest.Wait()
		}
		if s := l.Stats(); s.InFlight != 1 || s.Queued != 3 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Hour)
		go func() { errs <- run() }()
		synctest.Wait()
		if s := l.Stats(); s.InFlight != 5 || s.Queued != 0 || s.QueueFull != 0 || s.Trials.Inconclusive != 1 {
			t.Errorf("%+v", s)
		}
		close(leave)
		for range 5 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// The word stays watched while a request is queued: otherwise a request that leaves would
// not look at the queue.
func TestLimit_watchedWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := resilience.Must(New(Config{Max: 1}))
		at, _ := l.enter(t.Context())
		go func() { _ = resilience.Run(context.Background(), l, succeed) }()
		synctest.Wait()
		l.lock(0)
		l.machine.bound = false
		l.unlock(t.Context())
		if w := l.word.Load(); w&watchedBit == 0 {
			t.Errorf("the word is %x", w)
		}
		l.leave(at, true, false)
		synctest.Wait()
		if s := l.Stats(); s.Queued != 0 || s.Useful != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A queued request whose context ends as it gets a slot or is rejected is in one counter.
func TestLimit_answeredAtContextEnd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that it comes no sooner than it is let
	for round := range 300 {
		synctest.Test(t, func(t *testing.T) {
			l := resilience.Must(New(Config{Max: 1}))
			at, _ := l.enter(t.Context())
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_ = resilience.Run(ctx, l, func(context.Context) error { t.Error("it runs for a caller who has left"); return nil })
			}()
			synctest.Wait()
			refuse := round%2 == 0
			l.lock(0)
			if refuse { // who has left is told, before it has the lock to leave the line
				cancel()
				l.line.take(l.line.oldest, refused, 0)
				l.count.Add(shed)
			} else { // who is told leaves, before it looks
				l.flight--
				l.serve()
				cancel()
			}
			l.unlock(t.Context())
			synctest.Wait()
			if refuse {
				l.leave(at, true, false)
			}
			s := l.Stats()
			if s.InFlight != 0 || s.Queued != 0 || s.Shed+s.Canceled != 1 || refuse != (s.Shed == 1) {
				t.Errorf("round %d: %+v", round, s)
			}
		})
	}
}

func TestTheLineKeepsItsOrderWhoeverLeavesIt(t *testing.T) {
	var q line
	var want []*waiter
	at := func(newest bool) int {
		if newest {
			return len(want) - 1
		}
		return 0
	}
	for i := range 3000 {
		switch {
		case i%3 != 2 && i < 2000:
			w := &waiter{since: int64(i), ready: make(chan struct{})}
			q.push(w)
			want = append(want, w)
		case len(want) == 0:
		case i%5 == 0:
			k := i * 7 % len(want)
			q.remove(want[k])
			want = slices.Delete(want, k, k+1)
		default:
			newest := i%2 == 0
			w := want[at(newest)]
			q.take(q.next(newest), admitted, int64(i))
			select {
			case <-w.ready:
			default:
				t.Fatalf("step %d: the wrong one was told", i)
			}
			if w.state != admitted || w.entered != int64(i) {
				t.Fatalf("step %d: told %+v", i, w)
			}
			k := at(newest)
			want = slices.Delete(want, k, k+1)
		}
		var got, back []*waiter
		for w := q.oldest; w != nil; w = w.next {
			got = append(got, w)
		}
		for w := q.newest; w != nil; w = w.prev {
			back = append(back, w)
		}
		slices.Reverse(back)
		if q.n != len(want) || !slices.Equal(got, want) || !slices.Equal(back, want) {
			t.Fatalf("step %d: the line is not what it should be", i)
		}
	}
}

func TestNoTimeGoesBackwards(t *testing.T) {
	l := resilience.Must(New(Config{}))
	l.lock(100)
	l.unlock(t.Context())
	if now := l.lock(50); now != 100 {
		t.Errorf("it is %d after 100", now)
	}
	l.unlock(t.Context())
	l.complete(1<<40, 200, true, 1) // came by a clock that was set back since
	if l.machine.calm.stay != 0 {
		t.Errorf("a request took %v", l.machine.calm.stay)
	}
}
