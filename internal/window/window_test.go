package window_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/internal/vclock"
	"github.com/resilience-go/resilience/internal/window"
)

// over is a window with its clock.
type over struct {
	*window.Over
	hands *testkit.Clock
	clock *vclock.Clock
}

func newOver(length time.Duration) *over {
	hands := testkit.NewClock()
	c := vclock.New(hands)
	return &over{window.NewOver(int64(length), 0, &c), hands, &c}
}

func (o *over) add(hit bool) (hits, calls int) { return o.Add(o.clock.Nanos(), hit) }

func (o *over) want(t *testing.T, hits, calls int) {
	t.Helper()
	if h, c := o.Count(o.clock.Nanos()); h != hits || c != calls {
		t.Errorf("%d of %d, want %d of %d", h, c, hits, calls)
	}
}

// A call is counted for one window.
func TestOver_window(t *testing.T) {
	o := newOver(10 * time.Second)
	o.add(true)
	o.hands.Move(9999 * time.Millisecond)
	o.want(t, 1, 1)
	o.hands.Move(time.Millisecond)
	o.want(t, 0, 0)
}

// A window is empty after an idle time of any length.
func TestOver_idle(t *testing.T) {
	for _, idle := range []time.Duration{10 * time.Second, 11 * time.Second, time.Hour, 1 << 16 * time.Second, 10 << 16 * time.Second, 1 << 62} {
		o := newOver(10 * time.Second)
		for range 10 {
			o.add(true)
			o.hands.Move(time.Second)
		}
		o.hands.Move(idle)
		o.want(t, 0, 0)
		if hits, calls := o.add(false); hits != 0 || calls != 1 {
			t.Errorf("after %v: %d of %d", idle, hits, calls)
		}
	}
}

// Sparse calls never see counts of long ago, even when numbers wrap.
func TestOver_sparseCalls(t *testing.T) {
	o := newOver(10 * time.Second)
	for range 10 {
		o.add(true)
		o.hands.Move(time.Second)
	}
	for range 1 << 16 { // in two of the parts, until the 16 bits of a number wrap
		o.hands.Move(5 * time.Second)
		if hits, calls := o.add(false); hits > 6 || calls > 7 {
			t.Fatalf("%d of %d", hits, calls)
		}
	}
	o.want(t, 0, 2)
}

// After an idle time, the calls of eight goroutines at one instant all count.
func TestOver_idle_concurrency(t *testing.T) {
	for round := range 500 {
		o := newOver(10 * time.Second)
		o.add(true)
		// This is just before a part ends, so that some goroutines may see the next part. Its
		// distance from the existing parts is about one window.
		o.hands.Move(10*time.Second - 1 + time.Duration(round%3)*time.Second)
		begin := make(chan struct{})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				<-begin
				if i == 4 {
					o.hands.Move(1)
				}
				o.add(true)
			})
		}
		close(begin)
		all.Wait()
		if hits, calls := o.Count(o.clock.Nanos()); hits != calls || hits < 8 || hits > 9 {
			t.Fatalf("round %d: %d of %d, want all eight", round, hits, calls)
		}
	}
}

// A call that did not run for a window after it read the clock reads it again. Other
// calls are counted before that.
func TestOver_staleTime(t *testing.T) {
	for name, tt := range map[string]struct{ other, woken time.Duration }{
		"the window has moved on":   {105 * time.Second, 112 * time.Second},
		"a new window reaches back": {115 * time.Second, 107 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOver(10 * time.Second)
			o.Add(int64(100*time.Second), true)
			o.hands.OnSince = func() {
				o.hands.OnSince = nil
				o.Add(int64(tt.other), true)
				o.hands.Move(tt.woken)
			}
			o.Add(0, true)
			if hits, calls := o.Count(int64(max(tt.other, tt.woken))); hits != 2 || calls != 2 {
				t.Errorf("%d of %d, want 2 of 2", hits, calls)
			}
		})
	}
}

// Goroutines that move the window on at the same time all count.
func TestOver_advance_concurrency(t *testing.T) {
	o := newOver(10 * time.Second)
	for part := range 5000 {
		now := int64(part) * int64(time.Second)
		testkit.AtOnce(2, func(int) { o.Add(now, true); o.Add(now, false) })
		if hits, calls := o.Count(now); hits != 2*min(part+1, 10) || calls != 2*hits {
			t.Fatalf("part %d: %d of %d", part, hits, calls)
		}
	}
}

// Calls of many goroutines in one part all count.
func TestOver_onePart_concurrency(t *testing.T) {
	o := newOver(10 * time.Second)
	testkit.AtOnce(4, func(int) {
		for range 30000 {
			o.Add(0, true)
		}
	})
	o.want(t, 120000, 120000)
}

// A call in the part that leaves the window does not keep it there.
func TestOver_leavingPart(t *testing.T) {
	for range 5000 {
		o := newOver(10 * time.Second)
		o.Add(int64(9*time.Second), true)
		o.hands.Move(10 * time.Second)
		testkit.AtOnce(2, func(i int) {
			if i == 0 {
				o.Add(0, false)
				o.Add(0, false)
			} else {
				o.Add(int64(10*time.Second), true)
			}
		})
		if hits, _ := o.Count(int64(10 * time.Second)); hits != 2 {
			t.Fatalf("%d hits, want 2", hits)
		}
	}
}

// No call is lost or counted twice while the window moves.
func TestOver_rolls_concurrency(t *testing.T) {
	o := newOver(time.Hour)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				if g == 0 && i%40 == 0 {
					o.hands.Move(time.Minute)
				}
				o.add(i%2 == 0)
			}
		})
	}
	all.Wait()
	o.want(t, 8000, 16000)
}

// model is a window of time in its simplest form: a list of the calls.
type model struct {
	part   int64
	latest int64
	parts  []int64
	hits   []bool
}

func (m *model) add(now int64, hit bool) (hits, calls int) {
	n := now / m.part
	if n <= m.latest-10 { // the clock was set back
		m.parts, m.hits, m.latest = nil, nil, n
	}
	m.latest = max(m.latest, n)
	m.parts, m.hits = append(m.parts, n), append(m.hits, hit)
	for i, n := range m.parts {
		if n > m.latest-10 {
			calls++
			if m.hits[i] {
				hits++
			}
		}
	}
	return hits, calls
}

func FuzzOver(f *testing.F) {
	f.Add([]byte{1, 2, 0, 255, 128, 128, 3, 9, 200, 0, 0, 4})
	f.Add([]byte{64, 10, 64, 11, 192, 10, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		o, m := newOver(1000), model{part: 100}
		o.hands.Move(5000)
		m.latest = 0
		for i, s := range steps {
			// Steps of up to a window and a half, in both directions.
			step := time.Duration(int8(s)&^1) * 12
			o.hands.Move(max(step, -time.Duration(o.clock.Nanos())))
			now := o.clock.Nanos()
			hits, calls := o.Add(now, s&1 == 1)
			wantHits, wantCalls := m.add(now, s&1 == 1)
			if hits != wantHits || calls != wantCalls {
				t.Fatalf("step %d: %d of %d, want %d of %d", i, hits, calls, wantHits, wantCalls)
			}
		}
	})
}

// Every share of a hundred calls is exact.
func TestLast_everyShare(t *testing.T) {
	for p := 1; p <= 100; p++ {
		for _, failuresFirst := range []bool{true, false} {
			for _, failures := range []int{p - 1, p} {
				l, holds := window.NewLast(100, p), false
				for i := range 100 {
					failed := i < failures
					if !failuresFirst {
						failed = i >= 100-failures
					}
					if failed {
						_, _, enough := l.Fail(0)
						holds = holds || enough
					} else {
						l.Succeed()
					}
				}
				if holds != (failures == p) {
					t.Errorf("%d failures of 100 at %d: %v", failures, p, holds)
				}
				if failed, calls, _, _ := l.Count(0); failed != failures || calls != 100 {
					t.Errorf("%d of %d, want %d of 100", failed, calls, failures)
				}
			}
		}
	}
}

// The span is the time since the oldest failure that counts.
func TestLast_span(t *testing.T) {
	l := window.NewLast(10, 3)
	second := int64(time.Second)
	l.Fail(5 * second)
	l.Fail(20 * second)
	l.Succeed()
	if _, span, holds := l.Fail(30 * second); !holds || (span-25*time.Second).Abs() > time.Second/10 {
		t.Errorf("holds is %v, over %v, want 25 s", holds, span)
	}
	for range 7 {
		l.Succeed() // the first failure is now the eleventh call from the end
	}
	failed, calls, span, _ := l.Count(60 * second)
	if failed != 2 || calls != 10 || (span-40*time.Second).Abs() > time.Second/10 {
		t.Errorf("%d of %d over %v, want 2 of 10 over 40 s", failed, calls, span)
	}
}

// If failures come at the same time, at least one call of Fail reports that the rule
// holds.
func TestLast_Fail_concurrency(t *testing.T) {
	for _, failures := range []int{1, 2, 8, 64} {
		t.Run(fmt.Sprint(failures), func(t *testing.T) {
			for range 500 {
				l := window.NewLast(64, failures)
				holds := make(chan bool, failures)
				for range 64 - failures {
					l.Succeed()
				}
				testkit.AtOnce(failures, func(int) { _, _, enough := l.Fail(0); holds <- enough })
				close(holds)
				any := false
				for h := range holds {
					any = any || h
				}
				if !any {
					t.Fatal("no call of Fail reported that the rule holds")
				}
			}
		})
	}
}

// Failures of many goroutines are all remembered.
func TestLast_Count_concurrency(t *testing.T) {
	l := window.NewLast(1000, 1000)
	testkit.AtOnce(4, func(int) {
		for range 250 {
			l.Fail(0)
		}
	})
	if failed, calls, _, _ := l.Count(0); failed != 1000 || calls != 1000 {
		t.Errorf("%d of %d, want 1000 of 1000", failed, calls)
	}
}

func FuzzLast(f *testing.F) {
	f.Add(uint8(10), uint8(3), []byte{1, 0, 1, 0, 1})
	f.Add(uint8(3), uint8(3), []byte{1, 1, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, size, failures uint8, results []byte) {
		if size == 0 || failures == 0 || failures > size {
			t.Skip()
		}
		l := window.NewLast(int(size), int(failures))
		var calls []bool
		for i, r := range results {
			failed := r&1 == 1
			calls = append(calls, failed)
			last := calls[max(0, len(calls)-int(size)):]
			n := len(last) - len(slices.DeleteFunc(slices.Clone(last), func(failed bool) bool { return failed }))
			holds := false
			if failed {
				var in int
				if in, _, holds = l.Fail(int64(i)); in != len(last) {
					t.Fatalf("call %d is one of %d, want %d", i, in, len(last))
				}
			} else {
				l.Succeed()
			}
			if want := failed && n >= int(failures); holds != want {
				t.Fatalf("call %d, %d of the last %d failed: %v", i, n, len(last), holds)
			}
			if got, in, _, _ := l.Count(int64(i)); got != min(n, int(failures)) || in != len(last) {
				t.Fatalf("call %d: %d of %d, want %d of %d", i, got, in, n, len(last))
			}
		}
	})
}
