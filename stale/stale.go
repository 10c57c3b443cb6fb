// Package stale answers for a fetch that failed with the value of the last successful fetch.
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
	// defaultMaxAge is the default of Config.MaxAge. It is a round number: only the caller
	// knows how old a value may be.
	defaultMaxAge = time.Hour
	// defaultMax is the default of Config.Max, in values. It is a round number that bounds
	// memory.
	defaultMax = 1000
)

// Config configures a Stale. The zero value is a good default.
type Config struct {
	// Name appears in errors, events and reports.
	Name string
	// MaxAge is how old a remembered value may be to answer, by default 1 h. With Unbounded
	// it may have any age. The age is the wall time since the fetch, which includes a suspend
	// of the machine. If the wall time is set back, the age goes on by monotonic time.
	MaxAge time.Duration
	// Max is how many values are remembered, by default 1000. A new value replaces the
	// oldest.
	Max int
	// If reports whether a remembered value answers for an error. It has the same default
	// as fallback.Config.If.
	If func(err error) bool
	// Observer is called with each call that a remembered value answered. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. Deadlines are always real time.
	Clock clock.Clock
}

// Stale answers for a fetch that failed with the value of the last successful fetch. It
// remembers one value for each key. It is not a cache: every call asks for a fresh value.
//
// While a fetch for a key runs, other calls for the key share it and its value. Their own
// function and policy are not used. Callers must not change the value. The fetch has the
// values of the first caller's context, also after that caller has left: its trace, its
// credentials, its outgoing metadata and the settings of httpmw. So a key must name
// everything in them on which the value depends, such as the tenant. The fetch does not have
// the caller's attempt number, because one caller that is a retry would prevent the retries
// of all. The end of the caller's context does not end the fetch:
//
//   - A caller whose own context ends returns at once, and the fetch goes on for the
//     others. The last caller to leave cancels the fetch and waits until it has returned,
//     as a single caller does. So no goroutine outlives the calls.
//   - The first run of the fetch has the latest deadline of the callers that joined before
//     it. If a run fails at its deadline, and callers with a later deadline have joined,
//     the fetch runs again for all of them, with their latest deadline. So no caller fails
//     by another caller's deadline.
//   - If one of these callers has no deadline, neither has the run. Bound it by a timeout
//     in the policy: a fetch that hangs is shared by all later callers.
//   - If the fetch panics, all callers panic with the same value. If it ends by
//     runtime.Goexit, so do all callers.
//
// A fetch must not call Do for its own key: it would wait for itself.
//
// A Stale is safe for concurrent use if the functions in its Config are.
type Stale[T any] struct {
	cfg    Config
	clock  vclock.Clock
	shared singleflight.Group

	mu      sync.Mutex               // guards the fields below; never held while user code runs
	flights map[string]*flight       // the flights that calls can join; shared has exactly one call for each
	entries map[string]*list.Element // the elements of order
	order   list.List                // values are *entry[T], the oldest first

	fresh, stale, failed, refreshes atomic.Uint64
}

// entry is a remembered value.
type entry[T any] struct {
	key   string
	value T
	at    time.Time // when it was fetched
}

// flight is a fetch that calls share.
type flight struct {
	ctx    context.Context // the first caller's, without its end and its attempt
	cancel context.CancelCauseFunc
	// Guarded by the mu of the Stale.
	callers int       // callers that wait
	until   time.Time // the latest deadline of the callers that joined
	forever bool      // a caller without a deadline joined
}

// flightKey is the key of the flight in the context of its fetch.
type flightKey struct{}

// lastDeadline is the cause of a flight's context that ends because the deadline of the
// last caller has passed.
type lastDeadline struct {
	f   *flight
	err error // the end of the caller's context
}

func (e *lastDeadline) Error() string { return e.err.Error() }
func (e *lastDeadline) Unwrap() error { return e.err }
func (e *lastDeadline) Timeout() bool { return true }

// Ended is the optional method that resilience.OutcomeOf calls.
func (e *lastDeadline) Ended(ctx context.Context) bool { return ctx.Value(flightKey{}) == e.f }

// landing is how a flight ended.
type landing[T any] struct {
	result[T]
	at       time.Time
	err      error
	panicked any
	exited   bool // the fetch called runtime.Goexit
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

// Do runs fetch under p, which may be nil, or joins a running fetch for key. If the fetch
// fails, Do returns the remembered value for key. It returns the error if there is no
// value, the value is older than MaxAge, or Config.If excludes the error. By default Stale
// answers a caller whose deadline passes, and not a caller that cancels its context.
//
// If p returns nil although fetch failed or did not run, there is no fresh value: Do returns
// the remembered value, whatever Config.If is, or the zero value if there is none.
//
// The age of a fresh value is 0. The age of a remembered value is never 0. The error is
// fetch's, a rejection by p, or the error of ctx. A nil ctx or fetch is an error.
func (s *Stale[T]) Do(ctx context.Context, p resilience.Policy, key string, fetch func(context.Context) (T, error)) (v T, age time.Duration, err error) {
	if ctx == nil || fetch == nil {
		v, err = resilience.Do(ctx, p, fetch) // which returns the error
		return v, 0, err
	}
	if ctx.Err() != nil {
		return v, 0, resilience.ContextError(ctx) // as fallback.Do does
	}
	outcome := &s.failed // stays so after a panic
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
	if l.err == nil && l.fetched {
		outcome = &s.fresh
		return l.value, 0, nil
	}
	if l.err != nil && !policykit.Replaces(ctx, l.err, s.cfg.If) {
		return l.value, 0, l.err
	}
	if v, age, ok = s.remembered(key); !ok {
		if l.err == nil {
			outcome = &s.fresh
		}
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

// wait waits for a flight for key and returns how it landed. It returns false if ctx ended
// before the landing and other callers still wait for the flight.
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
	until, hasDeadline := ctx.Deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[key]
	if f == nil {
		f = &flight{}
		shared := resilience.WithAttempt(context.WithoutCancel(ctx), 1)
		f.ctx, f.cancel = context.WithCancelCause(context.WithValue(shared, flightKey{}, f))
		s.flights[key] = f
	}
	f.callers++
	f.forever = f.forever || !hasDeadline
	if until.After(f.until) {
		f.until = until
	}
	return f, s.shared.DoChan(key, func() (any, error) { return s.fly(f, p, key, fetch), nil })
}

// leave removes a caller whose ctx has ended from the flight. It reports whether the caller
// must wait for the landing, because it is the last.
func (s *Stale[T]) leave(ctx context.Context, key string, f *flight) bool {
	why := resilience.ContextError(ctx)
	if resilience.OutcomeOf(ctx, ctx.Err(), nil) == resilience.Failure {
		why = &lastDeadline{f, why} // shows policies that a deadline passed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.callers--; f.callers > 0 {
		return false
	}
	s.close(key, f)
	f.cancel(why)
	return true
}

// close prevents further calls from joining f. The caller holds mu.
func (s *Stale[T]) close(key string, f *flight) {
	if s.flights[key] == f {
		delete(s.flights, key)
		s.shared.Forget(key)
	}
}

// fly runs fetch and remembers its value, if it has one. The fetch runs on its own
// goroutine, because a panic in DoChan would end the program, and a Goexit in DoChan would
// leave all callers waiting.
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

// round runs fetch until the latest deadline of the callers that have joined so far. If the
// fetch fails at that deadline, and callers with a later deadline have joined since, round
// returns true for another round. Otherwise it closes f under the same lock, so that no
// caller joins a flight that has already failed.
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

// remember stores value for key, and removes values that are too many or too old. The
// caller holds mu.
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
	return e.value, max(1, vclock.Age(e.at, now)), true
}

// tooOld reports whether the value of el is older than MaxAge. If the Clock has no monotonic
// time and was set back to before the fetch, the age counts from now, so that the value does
// not live forever.
func (s *Stale[T]) tooOld(el *list.Element, now time.Time) bool {
	e := el.Value.(*entry[T])
	if e.at.After(now) {
		e.at = now
	}
	return s.cfg.MaxAge >= 0 && vclock.Age(e.at, now) > s.cfg.MaxAge
}

func (s *Stale[T]) forget(el *list.Element) {
	delete(s.entries, el.Value.(*entry[T]).key)
	s.order.Remove(el)
}

// Forget removes the remembered value for key, for example because the thing no longer
// exists. A fetch that is running may store it again.
func (s *Stale[T]) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.entries[key]; el != nil {
		s.forget(el)
	}
}

// Name returns the name from the Config.
func (s *Stale[T]) Name() string { return s.cfg.Name }
