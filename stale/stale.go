// Package stale answers for a fetch that failed with the value that it fetched last.
//
//	rates, err := stale.New[Rates](stale.Config{Name: "rates", MaxAge: time.Hour})
//	value, age, err := rates.Do(ctx, p, "EUR", fetch)
package stale

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
	"golang.org/x/sync/singleflight"
)

const policy = "stale"

// EventUsed is the kind of an event: a remembered value answered instead of a fetch that
// ended with Event.Err.
const EventUsed = "used stale value"

// Unbounded as Config.MaxAge lets a value answer whatever its age. No other negative
// number is valid.
const Unbounded time.Duration = -1

const (
	defaultMaxAge = time.Hour
	defaultMax    = 1000
)

// Config says how a Stale works. The zero value is a good default.
type Config struct {
	// Name appears in events.
	Name string
	// MaxAge is how old a remembered value may be to answer, by default 1 h; a
	// negative value sets no limit.
	MaxAge time.Duration
	// Max is how many values are remembered, by default 1000. The oldest makes room
	// for a new one.
	Max int
	// If chooses the errors that a remembered value answers for. The default is that
	// of fallback.Config.If.
	If func(err error) bool
	// Observer hears of each call that a remembered value has answered. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. Deadlines are always real time.
	Clock clock.Clock
}

// Stale answers for a fetch that failed with the value that it fetched last. It
// remembers one for each key. It is no cache: every call asks for a fresh value.
//
// Calls for a key that come while a fetch for it runs share that one, whatever
// function and policy they bring, and its value, which they must not change. The
// fetch has the values of the first caller's context, but not its end:
//
//   - A caller whose own context ends leaves at once, and the fetch goes on for the
//     others. The last one to leave cancels it and waits until it has returned, as
//     one that is alone has to. So no goroutine outlives the calls.
//   - The fetch has the latest deadline of those who wait as it begins. If that ends
//     it and others have come who have more time, it runs again, once for all of them.
//     So nobody fails by the deadline of another, and a fetch that hangs is not
//     shared for as long as callers come. One without a deadline is: limit its time
//     by the policy.
//   - If it panics, all callers panic with that value; if it ends by runtime.Goexit,
//     so do they.
//
// A fetch must not ask for its own key: it would wait for itself.
//
// A Stale is safe for concurrent use if the functions in its Config are.
type Stale[T any] struct {
	cfg    Config
	clock  vclock.Clock
	shared singleflight.Group

	mu      sync.Mutex               // guards all below; never held while code of the user runs
	flights map[string]*flight       // those that can be joined: shared has a call for each, and only for them
	entries map[string]*list.Element // of order
	order   list.List                // of *entry[T], the oldest first

	fresh, stale, failed, refreshes atomic.Uint64
}

// entry is a value that is remembered.
type entry[T any] struct {
	key   string
	value T
	at    time.Time // when it was fetched
}

// flight is a fetch that calls share.
type flight struct {
	ctx    context.Context // of the first caller, without its end
	cancel context.CancelCauseFunc
	// Guarded by the mu of the Stale.
	callers int       // that wait for it
	until   time.Time // the latest deadline of those who joined
	forever bool      // somebody joined who has none
}

// landing is how a flight ended.
type landing[T any] struct {
	result[T]
	at       time.Time
	err      error
	panicked any
	exited   bool // by runtime.Goexit
}

// result is the value of a fetch. fetched is false if a policy answered nil instead:
// resilience.Do then returns the zero result.
type result[T any] struct {
	value   T
	fetched bool
}

// New returns a Stale that remembers nothing yet, or an error that says what to
// change in c.
func New[T any](c Config) (*Stale[T], error) {
	if err := cmp.Or(
		policykit.CheckNegative(policy, c.Name, "Config.MaxAge", c.MaxAge, "stale.Unbounded"),
		policykit.CheckDuration(policy, c.Name, "Config.MaxAge", c.MaxAge, c.Clock),
	); err != nil {
		return nil, err
	}
	if c.MaxAge == 0 {
		c.MaxAge = defaultMaxAge
	}
	if c.Max == 0 {
		c.Max = defaultMax
	}
	if c.Max < 0 {
		return nil, fmt.Errorf("stale %q: Config.Max is %d: must be at least 1, or 0 for the default of %d", c.Name, c.Max, defaultMax)
	}
	return &Stale[T]{
		cfg: c, clock: vclock.New(c.Clock),
		flights: map[string]*flight{}, entries: map[string]*list.Element{},
	}, nil
}

// Do runs fetch under p, which may be nil, or joins those who wait for key already.
// If that fails, with an error that the Stale is for, it returns the value that was
// last fetched for key, if that is not older than MaxAge. A caller whose deadline
// passes has such an error; one that is canceled has not, unless If says so.
//
// The age is 0 of a value that is fresh, and never 0 of one that was remembered. The
// error is that of fetch, a refusal of a policy, or of the end of ctx.
func (s *Stale[T]) Do(ctx context.Context, p resilience.Policy, key string, fetch func(context.Context) (T, error)) (v T, age time.Duration, err error) {
	if ctx.Err() != nil {
		return v, 0, resilience.ContextError(ctx) // as a Fallback does
	}
	outcome := &s.failed // also if there is a panic
	defer func() { outcome.Add(1) }()
	l, ok := s.wait(ctx, p, key, fetch)
	switch {
	case !ok:
		l.err = resilience.ContextError(ctx)
	case l.panicked != nil:
		panic(l.panicked)
	case l.exited:
		runtime.Goexit()
	}
	if l.err == nil {
		outcome = &s.fresh
		return l.value, 0, nil
	}
	if !policykit.Replaces(ctx, l.err, s.cfg.If) {
		return l.value, 0, l.err
	}
	if v, age, ok = s.remembered(key); !ok {
		return l.value, 0, l.err
	}
	outcome = &s.stale
	if s.cfg.Observer != nil {
		policykit.Observe(ctx, s.cfg.Observer, resilience.Event{
			Kind: EventUsed, Time: s.clock.Now(), Policy: policy, Name: s.cfg.Name, Key: key, Err: l.err,
		})
	}
	return v, age, nil
}

// wait waits for a flight for key and returns how it landed, or false if ctx ended
// before and others wait on.
func (s *Stale[T]) wait(ctx context.Context, p resilience.Policy, key string, fetch func(context.Context) (T, error)) (l landing[T], ok bool) {
	f, landed := s.join(ctx, p, key, fetch)
	select {
	case r := <-landed:
		return r.Val.(landing[T]), true
	case <-ctx.Done():
	}
	if !s.leave(ctx, key, f) {
		return l, false
	}
	r := <-landed
	return r.Val.(landing[T]), true
}

// join adds a caller to the flight for key, and starts one if there is none.
func (s *Stale[T]) join(ctx context.Context, p resilience.Policy, key string, fetch func(context.Context) (T, error)) (*flight, <-chan singleflight.Result) {
	until, limited := ctx.Deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[key]
	if f == nil {
		f = &flight{}
		f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
		s.flights[key] = f
	}
	f.callers++
	f.forever = f.forever || !limited
	if until.After(f.until) {
		f.until = until
	}
	return f, s.shared.DoChan(key, func() (any, error) { return s.fly(f, p, key, fetch), nil })
}

// leave takes a caller whose ctx has ended off the flight. It reports whether the
// caller is to wait for the landing because nobody else does.
func (s *Stale[T]) leave(ctx context.Context, key string, f *flight) bool {
	why := resilience.ContextError(ctx) // policies tell a deadline by it
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.callers--; f.callers > 0 {
		return false
	}
	s.close(key, f)
	f.cancel(why)
	return true
}

// close keeps others from joining f. The caller holds mu.
func (s *Stale[T]) close(key string, f *flight) {
	if s.flights[key] == f {
		delete(s.flights, key)
		s.shared.Forget(key)
	}
}

// fly runs fetch and remembers its value, if it has one. The fetch has a goroutine of its own,
// because one that panics in DoChan ends the program, and one that exits there leaves
// all who wait.
func (s *Stale[T]) fly(f *flight, p resilience.Policy, key string, fetch func(context.Context) (T, error)) landing[T] {
	landed := make(chan landing[T], 1)
	go func() {
		l := landing[T]{exited: true}
		defer func() {
			if r := recover(); r != nil {
				l.panicked = r
			}
			landed <- l
		}()
		for again := true; again; {
			l.result, l.err, again = s.round(f, p, key, fetch)
		}
		l.at = s.clock.Now()
		l.exited = false
	}()
	l := <-landed
	s.mu.Lock()
	defer s.mu.Unlock()
	f.cancel(nil)
	if !l.exited && l.err == nil && l.fetched {
		s.remember(key, l.value, l.at)
	}
	s.close(key, f)
	return l
}

// round runs fetch, until the latest deadline of all who have joined so far. It asks
// for another round if that is over and some who came later have more time. If not,
// it closes f at that very moment: nobody joins just to hear of another's deadline.
func (s *Stale[T]) round(f *flight, p resilience.Policy, key string, fetch func(context.Context) (T, error)) (r result[T], err error, again bool) {
	s.refreshes.Add(1)
	s.mu.Lock()
	until, forever := f.until, f.forever
	s.mu.Unlock()
	ctx, cancel := f.ctx, context.CancelFunc(func() {})
	if !forever {
		ctx, cancel = context.WithDeadline(ctx, until)
	}
	defer cancel()
	r, err = resilience.Do(ctx, p, func(ctx context.Context) (result[T], error) {
		v, err := fetch(ctx)
		return result[T]{v, true}, err
	})
	cut := err != nil && !forever && time.Until(until) <= 0
	s.mu.Lock()
	defer s.mu.Unlock()
	again = cut && f.callers > 0 && (f.forever || f.until.After(until))
	if !again {
		s.close(key, f)
	}
	return r, err, again
}

// remember keeps value, in place of the one there was, and makes room. The caller
// holds mu.
func (s *Stale[T]) remember(key string, value T, now time.Time) {
	if old := s.entries[key]; old != nil {
		s.forget(old)
	}
	s.entries[key] = s.order.PushBack(&entry[T]{key, value, now})
	for s.order.Len() > s.cfg.Max || s.tooOld(s.order.Front(), now) {
		s.forget(s.order.Front())
	}
}

// remembered returns the value for key and its age, unless it is too old.
func (s *Stale[T]) remembered(key string) (v T, age time.Duration, ok bool) {
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	el := s.entries[key]
	if el == nil {
		return v, 0, false
	}
	if s.tooOld(el, now) {
		s.forget(el)
		return v, 0, false
	}
	e := el.Value.(*entry[T])
	return e.value, max(1, now.Sub(e.at)), true
}

// tooOld reports whether the value of el is. If the clock was set back to before it
// was fetched its age counts from now on, so that it does not live for ever.
func (s *Stale[T]) tooOld(el *list.Element, now time.Time) bool {
	e := el.Value.(*entry[T])
	if e.at.After(now) {
		e.at = now
	}
	return s.cfg.MaxAge >= 0 && now.Sub(e.at) > s.cfg.MaxAge
}

func (s *Stale[T]) forget(el *list.Element) {
	delete(s.entries, el.Value.(*entry[T]).key)
	s.order.Remove(el)
}

// Forget drops the value that is remembered for key, as for something that does not
// exist any more. A fetch that runs meanwhile may bring it back.
func (s *Stale[T]) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.entries[key]; el != nil {
		s.forget(el)
	}
}

// Name returns the name from the Config.
func (s *Stale[T]) Name() string { return s.cfg.Name }

// Stats is what a Stale has counted since it was made.
type Stats struct {
	Fresh     uint64 // calls that got a fresh value
	Stale     uint64 // calls that got a remembered value
	Failed    uint64 // calls that got an error, or a panic
	Refreshes uint64 // fetches, which calls share; what the policy retries counts as one
	Keys      int    // values that are remembered now
}

// Stats returns the counters.
func (s *Stale[T]) Stats() Stats {
	s.mu.Lock()
	keys := len(s.entries)
	s.mu.Unlock()
	return Stats{Fresh: s.fresh.Load(), Stale: s.stale.Load(), Failed: s.failed.Load(), Refreshes: s.refreshes.Load(), Keys: keys}
}
