package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

var errDown = errors.New("down")

// hands is a clock that tests move by hand, forwards and backwards.
type hands struct {
	clock.Clock
	now       atomic.Int64
	afterRead func() // what happens after the next reading by Since, before it is used
	onNow     func() // what happens at the next call of Now
}

func (h *hands) Now() time.Time {
	if f := h.onNow; f != nil {
		f()
	}
	return h.time()
}

func (h *hands) time() time.Time { return time.Unix(1e9, h.now.Load()).UTC() }

func (h *hands) Since(t time.Time) time.Duration {
	d := h.time().Sub(t)
	if f := h.afterRead; f != nil {
		f()
	}
	return d
}

func (h *hands) add(d time.Duration) { h.now.Add(int64(d)) }

// rig is a breaker with a clock and a record of its transitions.
type rig struct {
	*breaker.Breaker
	t      *testing.T
	clock  *hands
	mu     sync.Mutex
	seen   []resilience.Event
	forked bool // seen has events of forks too
}

// Fork forks the breaker. The fork has the same observer.
func (r *rig) Fork(key string) resilience.Policy {
	r.forked = true
	return r.Breaker.Fork(key)
}

func (r *rig) Observe(_ context.Context, e resilience.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, e)
}

func (r *rig) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s []string
	for _, e := range r.seen {
		s = append(s, e.From+">"+e.To)
	}
	return s
}

// checkEvents fails unless the events alternate and end with the state that was installed
// last, and the history and the counters agree with the events.
func (r *rig) checkEvents() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	state := "CLOSED"
	counts := map[breaker.TransitionCount]uint64{}
	led := map[string]uint64{}
	for _, e := range r.seen {
		if e.From != state || e.To == state {
			r.t.Fatalf("an event from %s to %s in %s", e.From, e.To, state)
		}
		state = e.To
		counts[breaker.TransitionCount{From: states[e.From], To: states[e.To], Rule: e.Reason}]++
		led[e.To]++
	}
	if now := r.State().String(); now != state && (now != "HALF_OPEN" || state != "OPEN") {
		r.t.Fatalf("the last event is to %s, the state is %s", state, now)
	}
	for _, c := range r.Transitions() {
		n := c.Count
		if c.Count = 0; n != counts[c] {
			r.t.Fatalf("%s -> %s by %s was counted %d times, and announced %d times", c.From, c.To, c.Rule, n, counts[c])
		}
		delete(counts, c)
	}
	if len(counts) > 0 {
		r.t.Fatalf("announced and not counted: %v", counts)
	}
	x := r.Explain()
	if s := x.Stats; s.Opened != led["OPEN"] || s.HalfOpened != led["HALF_OPEN"] || s.Closed != led["CLOSED"] {
		r.t.Fatalf("announced %v, counted %+v", led, s)
	}
	r.checkHistory(x.History)
}

var states = map[string]breaker.State{"CLOSED": breaker.Closed, "OPEN": breaker.Open, "HALF_OPEN": breaker.HalfOpen}

// checkHistory fails unless the history is the last 16 events.
func (r *rig) checkHistory(history []breaker.Transition) {
	r.t.Helper()
	want := r.seen[max(0, len(r.seen)-16):]
	if len(history) != len(want) {
		r.t.Fatalf("%d transitions are remembered of %d", len(history), len(r.seen))
	}
	for i, e := range want {
		h := history[i]
		h.Slow = false // an event has no such field
		w := breaker.Transition{
			Time: e.Time, From: states[e.From], To: states[e.To], Rule: e.Reason,
			Failures: e.Failures, Calls: e.Calls, OpenFor: e.Delay,
		}
		for m := range breaker.MetricsOnly + 1 {
			if e.Mode == m.String() {
				w.Mode = m
			}
		}
		if e.Err != nil {
			w.Error = (&resilience.Rejection{Cause: e.Err}).CauseText()
		}
		if h != w {
			r.t.Fatalf("transition %d is remembered as\n%+v, the event is\n%+v", i, h, w)
		}
	}
}

func newRig(t *testing.T, c breaker.Config) *rig {
	t.Helper()
	r := &rig{t: t, clock: &hands{}}
	c.Clock = r.clock
	checked := c.Observer == nil
	if checked {
		c.Observer = r
	}
	b, err := breaker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Breaker = b
	if checked {
		t.Cleanup(func() { // when no call is in flight
			r.clock.afterRead = nil
			if !r.forked {
				r.checkEvents()
			}
		})
	}
	return r
}

// quick opens at the second failure in a row, for a second, and closes at the
// first success.
var quick = breaker.Config{Name: "q", Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}, OpenFor: time.Second, CloseAfter: 1}

func (r *rig) run(err error) error {
	return r.runFunc(func() error { return err })
}

func (r *rig) runFunc(fn func() error) error {
	return resilience.Run(context.Background(), r.Breaker, func(context.Context) error { return fn() })
}

func (r *rig) trip() {
	r.t.Helper()
	for range 10000 {
		if r.State() == breaker.Open {
			return
		}
		if _ = r.run(errDown); r.State() == breaker.Closed {
			r.clock.add(time.Millisecond)
		}
	}
	r.t.Fatal("does not open")
}

func (r *rig) want(s breaker.State) {
	r.t.Helper()
	if got := r.State(); got != s {
		r.t.Fatalf("state is %v, want %v", got, s)
	}
}

// held is a call that is in flight until finish or unwind ends it.
type held struct {
	end    chan func() error
	result chan error
}

// start starts a call and returns when it is in flight, or nil if it was rejected.
func (r *rig) start(ctx context.Context) *held {
	h := &held{make(chan func() error), make(chan error, 1)}
	in := make(chan bool)
	go func() {
		returned := false
		defer func() {
			if !returned {
				p := recover()
				h.result <- fmt.Errorf("unwound: %v", p)
			}
		}()
		err := resilience.Run(ctx, r.Breaker, func(context.Context) error {
			in <- true
			return (<-h.end)()
		})
		returned = true
		if errors.Is(err, breaker.ErrOpen) {
			close(in)
			return
		}
		h.result <- err
	}()
	if !<-in {
		return nil
	}
	return h
}

func (h *held) finish(err error) error {
	h.end <- func() error { return err }
	return <-h.result
}

func (h *held) unwind(how func()) error {
	h.end <- func() error { how(); return nil }
	return <-h.result
}
