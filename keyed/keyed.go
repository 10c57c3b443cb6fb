// Package keyed gives each key, such as a host or a gRPC method, its own policy, so that a
// host that fails opens only its own breaker.
//
//	g, err := keyed.New(b, keyed.Config{Name: "hosts"})
//	err = resilience.Run(ctx, g.For("users"), fn)
package keyed

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/adapter"
	"github.com/resilience-go/resilience/internal/policykit"
)

// defaultMax is the default of Config.Max, in keys. It is more hosts than most clients
// call, and bounds the memory of a client that calls arbitrary hosts.
const defaultMax = 1000

// Config configures a Group. The zero value is a good default.
type Config struct {
	// Name appears in errors of New and in descriptions of the group.
	Name string
	// Max is how many keys the group remembers, by default 1000. The group holds more
	// while more are in use: it never drops a key that has a call in flight or whose
	// policy is not idle. A breaker is not idle while it is open, or soon after failures.
	// A retry is not idle while its budget holds less than a new one's, for at most ten
	// seconds after a call last needed a retry.
	Max int
	// Keys are the exceptions: keys with a policy of their own, which the group always
	// remembers. Over HTTP a key is the result of httpmw.HostKey, and every spelling of an
	// origin is accepted here: "https://api.example.com" also stands for
	// "https://api.example.com:443". A user name is an error, so that no password is shown.
	// Over gRPC a key is the target and the method, as in
	// "dns:///payments:443/payments.v1.Payments/Charge".
	Keys map[string]resilience.Policy
}

// Group is a Policy that has a policy for each key, and applies to an operation the policy
// of its key, Next.Key. The policies are forks of a template. Each has its own state, and
// the template has the counters of all.
//
// A Group is safe for concurrent use.
type Group struct {
	cfg      Config                       // as given to New, with a copy of Keys
	keys     map[string]resilience.Policy // Config.Keys, and their canonical spellings
	template resilience.Policy
	entries  sync.Map // string to *entry
	len      atomic.Int64
	sweepAt  atomic.Int64 // sweep runs when len is greater
	sweeping sync.Mutex   // held during a sweep; guards writes to sweepAt
	evicted  atomic.Uint64
}

// entry holds the policy of a key.
type entry struct {
	policy resilience.Policy
	// pins counts the calls that use the entry. It is negative while evict drops the entry,
	// because evict adds dead. A call that finds it negative looks the key up again.
	pins atomic.Int64
	used atomic.Bool // since the last sweep
}

// dead is added to entry.pins to drop the entry. No number of calls makes the sum positive.
const dead = -1 << 40

// New returns a Group of forks of template, or an error that says what to change. In a
// template made by resilience.Compose, each policy that is a resilience.Forker is forked.
// All keys share a policy that is not one.
func New(template resilience.Policy, c Config) (*Group, error) {
	if policykit.Absent(template) {
		return nil, fmt.Errorf("keyed %q: the template is nil: give it a policy, or resilience.Compose() to have no policy", c.Name)
	}
	if c.Max == 0 {
		c.Max = defaultMax
	}
	if c.Max < 0 {
		return nil, fmt.Errorf("keyed %q: Config.Max is %d: must be at least 1, or 0 for the default of %d", c.Name, c.Max, defaultMax)
	}
	c.Keys = maps.Clone(c.Keys)
	keys, err := c.spellings()
	if err != nil {
		return nil, err
	}
	g := &Group{cfg: c, keys: keys, template: template}
	g.sweepAt.Store(int64(c.Max))
	return g, nil
}

// spellings returns Keys and, for each key that is the origin of a URL, its canonical
// spelling, which is the key of a request. The key as written stays, because a Key
// function of user code may return it.
func (c *Config) spellings() (map[string]resilience.Policy, error) {
	keys := maps.Clone(c.Keys)
	written := map[string]string{} // by canonical spelling
	for _, k := range slices.Sorted(maps.Keys(c.Keys)) {
		if adapter.HasUser(k) { // the error, the debug page and descriptions would show it
			return nil, fmt.Errorf("keyed %q: a key in Config.Keys is a URL with a user name or a password, which the key of a request does not have: write scheme, host and port, as in %q", c.Name, "https://api.example.com:443")
		}
		if policykit.Absent(c.Keys[k]) {
			return nil, fmt.Errorf("keyed %q: Config.Keys[%q] is nil: leave the key out, or give it resilience.Compose() to have no policy", c.Name, k)
		}
		canonical, ok := adapter.CanonicalKey(k)
		if !ok {
			continue
		}
		if other, twice := written[canonical]; twice {
			return nil, fmt.Errorf("keyed %q: Config.Keys has %q and %q, which are both %q: leave one of them out", c.Name, other, k, canonical)
		}
		written[canonical] = k
		keys[canonical] = c.Keys[k]
	}
	return keys, nil
}

// Apply implements resilience.Policy.
func (g *Group) Apply(ctx context.Context, next resilience.Next) error {
	return g.apply(ctx, next.Key(), next)
}

func (g *Group) apply(ctx context.Context, key string, next resilience.Next) error {
	if len(g.keys) > 0 {
		if p, ok := g.keys[key]; ok {
			return p.Apply(ctx, next)
		}
	}
	e := g.pin(key)
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, (*pinned)(e), 0) }()
	err = e.policy.Apply(ctx, next)
	return err
}

// pinned is an entry as a Settler: it is unpinned when an operation ends.
type pinned entry

func (p *pinned) Settle(uint64, error) { p.pins.Add(-1) }

// pin returns the entry of key, which is not dropped until its pins are decremented.
func (g *Group) pin(key string) *entry {
	for {
		if v, ok := g.entries.Load(key); ok {
			e := v.(*entry)
			if e.pins.Add(1) > 0 {
				if !e.used.Load() {
					e.used.Store(true)
				}
				return e
			}
			e.pins.Add(-1)
			runtime.Gosched() // evict is about to drop the entry or to keep it
			continue
		}
		// The entry is inserted pinned, because its own insertion may start a sweep.
		e := &entry{policy: g.fork(key)}
		e.pins.Store(1)
		if _, lost := g.entries.LoadOrStore(key, e); lost {
			g.retire(e.policy) // another call was faster
			continue
		}
		if g.len.Add(1) > g.sweepAt.Load() {
			g.sweepFor(e)
		}
		return e
	}
}

// fork returns the policy of a new key. All keys share a template that is not a Forker. A
// fork that is nil guards nothing.
func (g *Group) fork(key string) resilience.Policy {
	f, ok := g.template.(resilience.Forker)
	if !ok {
		return g.template
	}
	p := f.Fork(key)
	if policykit.Absent(p) {
		return resilience.Compose()
	}
	return p
}

// sweepFor runs a sweep after e, which is pinned, was inserted. If the method Idle of a
// policy panics, sweepFor unpins e, because the call does not use it.
func (g *Group) sweepFor(e *entry) {
	returned := false
	defer func() {
		if !returned {
			e.pins.Add(-1)
		}
	}()
	g.sweep()
	returned = true
}

// sweep drops entries that are unpinned, idle and not used since the last sweep, until Max
// less an eighth are left, so that the next sweep is not due soon.
//
// It drops entries in random order: the order of the map is fixed, so the same keys would
// always be dropped first. It marks used entries as unused, for the second round and for
// the next sweep. If it cannot drop enough, the next sweep waits until there are an eighth
// more keys than must be kept. Otherwise each new key would start a sweep.
func (g *Group) sweep() {
	if !g.sweeping.TryLock() {
		return // another goroutine sweeps
	}
	defer g.sweeping.Unlock()
	want := int64(g.cfg.Max - g.cfg.Max/8)
	kept := int64(0)
	for range 2 {
		kept = 0
		var unused []any
		g.entries.Range(func(key, v any) bool {
			if e := v.(*entry); e.used.Load() {
				e.used.Store(false)
			} else {
				unused = append(unused, key)
			}
			return true
		})
		rand.Shuffle(len(unused), func(i, j int) { unused[i], unused[j] = unused[j], unused[i] })
		for _, key := range unused {
			if g.len.Load() <= want {
				break
			}
			if v, ok := g.entries.Load(key); ok && !g.evict(key, v.(*entry)) {
				kept++
			}
		}
		if g.len.Load() <= want {
			break
		}
	}
	limit := int64(g.cfg.Max)
	g.sweepAt.Store(max(limit, kept+max(limit, kept)/8))
}

// evict drops e if no call uses it and its policy is idle. It reports whether it did.
func (g *Group) evict(key any, e *entry) (drop bool) {
	if e.pins.Load() != 0 || !idle(e.policy) || !e.pins.CompareAndSwap(0, dead) {
		return false
	}
	defer func() {
		if !drop { // also if Idle panics, so that calls that wait for e go on
			e.pins.Add(-dead)
		}
	}()
	// No call can use e now, so if Idle returns true, the policy stays idle.
	if drop = idle(e.policy); drop {
		g.entries.CompareAndDelete(key, e)
		g.len.Add(-1)
		g.evicted.Add(1)
		g.retire(e.policy)
	}
	return drop
}

// retire calls the optional method Retire of a fork that the group has dropped. A template
// that is not a Forker, or that returns itself, still serves other keys.
func (g *Group) retire(p resilience.Policy) {
	if reflect.ValueOf(p).Comparable() && p == g.template {
		return
	}
	if r, ok := p.(interface{ Retire() }); ok {
		r.Retire()
	}
}

func idle(p resilience.Policy) bool {
	i, ok := p.(interface{ Idle() bool })
	return !ok || i.Idle()
}

// For returns a policy that applies the policy of key, whatever the key of the operation
// is. The result holds no state: keep it, or call For for each call.
func (g *Group) For(key string) resilience.Policy { return &member{g, key} }

type member struct {
	g   *Group
	key string
}

func (m *member) Apply(ctx context.Context, next resilience.Next) error {
	return m.g.apply(ctx, m.key, next)
}

// Unwrap returns the group, so that resilience.Walk finds the policies that count for the
// key.
func (m *member) Unwrap() []resilience.Policy { return []resilience.Policy{m.g} }

// Nodes returns the template, the policies of Config.Keys in the order of their keys, and
// the policies of the keys that the group holds, in no order. resilience.Walk calls it.
func (g *Group) Nodes() iter.Seq[resilience.Node] {
	return func(yield func(resilience.Node) bool) {
		if !yield(resilience.Node{Policy: g.template, Template: true}) {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(g.cfg.Keys)) {
			if !yield(resilience.Node{Policy: g.cfg.Keys[k], Key: k}) {
				return
			}
		}
		for k, p := range g.All() {
			if !yield(resilience.Node{Policy: p, Key: k, Fork: true}) {
				return
			}
		}
	}
}

// All returns the keys that the group remembers, with their policies, in no order. It
// returns forks only: resilience.Walk also finds the template and the policies of
// Config.Keys.
func (g *Group) All() iter.Seq2[string, resilience.Policy] {
	return func(yield func(string, resilience.Policy) bool) {
		g.entries.Range(func(k, v any) bool { return yield(k.(string), v.(*entry).policy) })
	}
}

// Name returns the name from the Config.
func (g *Group) Name() string { return g.cfg.Name }

// Counters are the numbers of Stats that never fall.
type Counters struct {
	Evicted uint64 // keys that the group has dropped
}

// Gauges are the numbers of Stats that describe the present.
type Gauges struct {
	Keys int // keys that the group remembers, without the keys of Config.Keys
}

// Stats are the counters and the gauges of a Group.
type Stats struct {
	Counters
	Gauges
}

// Stats returns the counters and the gauges.
func (g *Group) Stats() Stats {
	return Stats{Counters{Evicted: g.evicted.Load()}, Gauges{Keys: int(g.len.Load())}}
}
