// Package endpoint chooses among the replicas behind a name, so that a replica that is
// down, hangs, fails or is slow rarely costs a call.
//
// httpmw.Endpoints and grpcmw.WithEndpoints use it for HTTP and gRPC. For a client with
// replicas of its own, such as one of a database or a cache, a Set is also a policy. Put it
// innermost:
//
//	set, err := endpoint.New(endpoint.Config{Name: "orders"})
//	set.Update([]string{"db-1:5432", "db-2:5432", "db-3:5432"}, connect)
//	p := resilience.Compose(stack.Client("orders"), set)
//	err = resilience.Run(ctx, p, func(ctx context.Context) error {
//		return query(ctx, endpoint.Of(ctx).Value().(*sql.DB))
//	})
package endpoint

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/vclock"
)

// policy is the kind of a Set in events and reports.
const policy = "endpoint"

// defaultSubset is the default of Config.Subset. More endpoints do not help a call, and each
// costs the client connections.
const defaultSubset = 100

// All is a Config.Subset without a bound.
const All = -1

// Config configures a Set. The zero value is a good default.
type Config struct {
	// Name appears in events and reports.
	Name string
	// Subset is how many of the addresses given to Update are used, by default 100. The
	// set chooses them at random. When an address comes or goes, at most one endpoint is
	// replaced. With All it uses all addresses.
	Subset int
	// Observer is called when an endpoint is ejected and when it returns. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
	// Rand returns random numbers, nil for math/rand/v2. It must be safe for
	// concurrent use, and must not use the set.
	Rand func() uint64
}

// Set is the endpoints behind a name. It chooses one for each attempt, by what it has seen
// of them itself. It has no goroutine, no timer and no network.
//
// Of two endpoints taken at random (power of two choices), Pick returns the one that is
// expected to answer sooner, which has less of
//
//	(in flight + 1) × latency ÷ (1.02 − failures)⁴
//
// latency and failures, the share of attempts that failed, are moving averages. They fade
// within seconds without samples. Differences in latency and failures of less than 1.5
// times are noise: then only the attempts in flight decide. An endpoint that owes answers
// and has given none for four times its latency counts with that time as its latency, so a
// hang is noticed before a timeout has passed. That evidence is renewed by further attempts:
// it ends after a second without one, or after as long as the silence had lasted by then.
//
// An endpoint is ejected when an attempt could not connect, or timed out after more than four
// times the latency of the others, and the endpoint has answered no other attempt since that
// one began. The others must be better: they fail in less than half of their attempts, or in
// less than a fifth for a timeout.
//
// An endpoint is also ejected after so many failures in a row that an endpoint as good as the
// others would have them once in 100 000 runs: four if the others do not fail, seventeen if
// half of their answers are failures. A minute without attempts ends the row. Where all fail
// alike, none is ejected. The last endpoint is never ejected. While all that are left fail,
// Pick chooses among all.
//
// An ejected endpoint gets one attempt at a time, as a probe:
//
//   - after a second, or an eighth of the ejection's duration, and 200 picks;
//   - after about 30 s, if there were as many picks as endpoints;
//   - at once when another endpoint is ejected or returns, if it was probed least recently;
//   - when a call has tried all other endpoints.
//
// Apart from the last case, all ejected endpoints together get at most one pick in 100, or
// one in five seconds. A probe that succeeds ends the ejection. The endpoint then starts
// slowly, with one attempt in flight and one more after each success. Attempts that began
// before an ejection or a return change nothing.
//
// A Set is safe for concurrent use.
type Set struct {
	*shared
	key  string
	fork bool

	view      atomic.Pointer[view]
	picks     atomic.Uint64 // while an endpoint is ejected
	probeAt   atomic.Int64  // the earliest time of the next probe
	probePick atomic.Uint64 // the pick from which a probe may come before probeAt
	// unanswered are the attempts, without probes, since any endpoint has answered.
	unanswered atomic.Int64

	updating sync.Mutex // held by Update and Suspend; only Update changes view.all

	mu         sync.Mutex // guards changes of view, and the ejection of each endpoint
	events     []queued
	delivering bool // a goroutine is calling the observer with events
}

// shared is what the forks of a Set share.
type shared struct {
	counters counters.Set
	cfg      Config
	clock    vclock.Clock
	rand     func() uint64
	seed     maphash.Seed // of the subset
}

// view is the endpoints of a Set at one time. It never changes.
type view struct {
	all     []*Endpoint
	usable  []*Endpoint // not suspended
	in      []*Endpoint // usable and not ejected; empty only if usable is
	ejected []*Endpoint // usable and ejected
}

// New returns a Set without endpoints, or an error that says what to change in c.
func New(c Config) (*Set, error) {
	if c.Subset < All {
		return nil, fmt.Errorf("endpoint %q: Config.Subset is %d: must not be negative; for all endpoints use endpoint.All", c.Name, c.Subset)
	}
	c.Subset = cmp.Or(c.Subset, defaultSubset)
	s := &shared{cfg: c, clock: vclock.New(c.Clock), rand: c.Rand, seed: maphash.MakeSeed()}
	if s.rand == nil {
		s.rand = rand.Uint64
	}
	set := &Set{shared: s}
	set.view.Store(&view{})
	return set, nil
}

// Name returns the name from the Config.
func (s *Set) Name() string { return s.cfg.Name }

// Fork implements resilience.Forker. The fork has no endpoints before its Update is called,
// and shares the configuration and the counters of s.
func (s *Set) Fork(key string) resilience.Policy {
	fork := &Set{shared: s.shared, key: key, fork: true}
	fork.view.Store(&view{})
	return fork
}

// Idle reports whether a keyed.Group may drop the set: no attempt is in flight, and no
// endpoint is ejected, or a probe of each is due because of the time since it was ejected.
func (s *Set) Idle() bool {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.view.Load().all, func(e *Endpoint) bool {
		return e.InFlight() > 0 || e.out != nil && ahead(e.out.late, now, 2*mostOut)
	})
}

// Update replaces the addresses. Duplicates count once. An address that stays keeps its
// Endpoint. For a new one, Update calls value, which may be nil, to make Endpoint.Value;
// value must not call Update. An endpoint that is added to others starts slowly. Update
// returns the endpoints whose addresses are gone; attempts may still be in flight there.
// Without addresses, Pick returns false.
func (s *Set) Update(addresses []string, value func(address string) any) (dropped []*Endpoint) {
	dropped = s.replace(addresses, value)
	s.mu.Lock()
	s.unlock() // calls the observer
	return dropped
}

// replace is Update, except that it calls no observer.
func (s *Set) replace(addresses []string, value func(address string) any) (dropped []*Endpoint) {
	s.updating.Lock()
	defer s.updating.Unlock()
	gone := map[string]*Endpoint{}
	for _, e := range s.view.Load().all {
		gone[e.address] = e
	}
	first := len(gone) == 0
	now := s.now()
	var all []*Endpoint
	for _, a := range s.subset(addresses) {
		e := gone[a]
		if e == nil {
			e = &Endpoint{set: s, address: a, since: now}
			e.answeredAt.Store(math.MinInt64)
			e.renew()
			if value != nil {
				e.value = value(a)
			}
			if !first {
				e.credit.Store(1)
			}
		}
		delete(gone, a)
		all = append(all, e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.install(all, now)
	for _, e := range gone {
		e.dropped = true
	}
	return slices.Collect(maps.Values(gone))
}

// subset returns the addresses to use, sorted and without duplicates. Of too many it
// returns those with the least hashes (rendezvous hashing), so that most of them stay the
// same when other addresses come and go.
func (s *Set) subset(addresses []string) []string {
	sorted := slices.Compact(slices.Sorted(slices.Values(addresses)))
	if s.cfg.Subset == All || len(sorted) <= s.cfg.Subset {
		return sorted
	}
	hashes := make(map[string]uint64, len(sorted))
	for _, a := range sorted {
		hashes[a] = maphash.String(s.seed, a)
	}
	slices.SortFunc(sorted, func(a, b string) int { return cmp.Compare(hashes[a], hashes[b]) })
	return sorted[:s.cfg.Subset]
}

// install makes all the endpoints of the set. mu is held.
func (s *Set) install(all []*Endpoint, now int64) {
	v := &view{all: all}
	for _, e := range all {
		switch {
		case e.suspended:
			continue
		case e.out == nil:
			v.in = append(v.in, e)
		default:
			v.ejected = append(v.ejected, e)
		}
		v.usable = append(v.usable, e)
	}
	if len(v.in) == 0 && len(v.usable) > 0 {
		// The endpoints that were in are gone. Those that are left may fail, but Pick
		// needs one.
		for _, e := range v.usable {
			s.admit(e, now)
		}
		v.in, v.ejected = v.usable, nil
	}
	if len(all) == 1 { // it gets all the work, and nothing is measured
		all[0].forget()
		if all[0].credit.Swap(0) > 0 {
			all[0].since = now
		}
	}
	s.view.Store(v)
}

// now returns the time in ns since construction. It is negative if the clock was set back to
// before that: if the time stood still, no ejection would end.
func (s *Set) now() int64 { return s.clock.Elapsed() }

// timeAt returns the time of day at which now returned n, or will return n.
func (s *Set) timeAt(n int64) time.Time { return s.clock.Now().Add(time.Duration(n - s.now())) }

// Suspend makes Pick skip the endpoints for which suspended returns true, for instance those
// without a connection, and no others. The set keeps what it has seen of them, and the
// results of their attempts still count. An ejected endpoint that is no longer suspended is
// soon due for a probe.
func (s *Set) Suspend(suspended func(*Endpoint) bool) {
	s.updating.Lock()
	defer s.updating.Unlock()
	all := s.view.Load().all
	var changed []*Endpoint
	for _, e := range all {
		if suspended(e) != e.suspended { // which only Suspend sets
			changed = append(changed, e)
		}
	}
	if len(changed) == 0 {
		return
	}
	now := s.now()
	s.mu.Lock()
	defer s.unlock()
	for _, e := range changed {
		e.suspended = !e.suspended
		e.since = now
		if o := e.out; o != nil && !e.suspended {
			o.late, o.latePick = min(o.late, o.failed+int64(leastOut)), 0
		}
	}
	s.install(all, now)
}

// Forget ends the ejection of e and discards what its set has seen of it, for instance
// because another process has the address now. e starts slowly, as a new endpoint does.
func (e *Endpoint) Forget() {
	s := e.set
	now := s.now()
	s.mu.Lock()
	defer s.unlock()
	if e.dropped {
		return
	}
	if e.out != nil {
		s.admit(e, now)
	}
	e.forget()
	e.credit.Store(1)
	e.since = now
	s.install(s.view.Load().all, now)
}

// Endpoints returns the endpoints, sorted by address unless they are a subset.
func (s *Set) Endpoints() []*Endpoint { return slices.Clone(s.view.Load().all) }

// Endpoint is one address of a Set. It is safe for concurrent use.
type Endpoint struct {
	set     *Set
	address string
	value   any

	// Attempts that have started and ended.
	started, ended atomic.Int64

	// owed has the generation of the endpoint in its upper 32 bits, and in the lower ones
	// how many attempts of that generation wait for an answer. Each ejection and each
	// return starts a generation. The results of the attempts before it change nothing.
	owed        atomic.Uint64
	answeredAt  atomic.Int64 // the last answer
	silentSince atomic.Int64 // the start of the first attempt after it
	startedAt   atomic.Int64 // the start of the last attempt
	latency     average      // in ns, of attempts that succeeded
	failures    average      // the share of attempts that failed
	run         atomic.Int64 // failures in a row
	failedAt    atomic.Int64 // when the last one was counted
	// credit is how many attempts may be in flight during a slow start, 0 for any number.
	credit atomic.Int64

	ejected atomic.Bool // out is not nil

	// Guarded by set.mu:

	out       *ejection // nil while the endpoint is in
	dropped   bool      // the address is gone
	suspended bool      // Pick skips the endpoint; set.updating is held to change it
	since     int64     // when the state changed last
	why       string    // of the last ejection that has ended
}

// Address returns the address given to Set.Update.
func (e *Endpoint) Address() string { return e.address }

// Value returns the value that Set.Update has made for the address.
func (e *Endpoint) Value() any { return e.value }

// generation returns the number of the present generation.
func (e *Endpoint) generation() uint32 { return uint32(e.owed.Load() >> 32) }

// renew starts a generation. set.mu is held, or e is new.
func (e *Endpoint) renew() { e.owed.Store((e.owed.Load()>>32 + 1) << 32) }

// forget starts a generation of which nothing is known. set.mu is held.
func (e *Endpoint) forget() {
	e.renew()
	e.latency.reset()
	e.failures.reset()
	e.run.Store(0)
}

// InFlight returns how many attempts have started and not ended.
func (e *Endpoint) InFlight() int64 {
	ended := e.ended.Load() // first, so that no attempt is seen ended and not started
	return e.started.Load() - ended
}

// full reports whether a slow start admits no further attempt.
func (e *Endpoint) full() bool {
	credit := e.credit.Load()
	return credit > 0 && e.InFlight() >= credit
}

// silence returns how long the endpoint has owed an answer at now without giving any, 0 if it
// owes none. A silence in which no attempt has started lately is no evidence: the attempt may
// wait for an event, as a long poll does. Lately is a second, or as long as the silence had
// lasted when the last attempt started.
func (e *Endpoint) silence(now int64) time.Duration {
	since, started := e.silentSince.Load(), e.startedAt.Load()
	if uint32(e.owed.Load()) == 0 || since <= e.answeredAt.Load() || now-started >= max(int64(leastOut), started-since) {
		return 0
	}
	return time.Duration(now - since)
}
