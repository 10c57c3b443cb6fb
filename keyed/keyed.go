// Package keyed gives each key, such as a host or a gRPC method, a policy of its
// own, so that one that fails opens only its own breaker.
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
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

const defaultMax = 1000

// Config says how a Group works. The zero value is a good default.
type Config struct {
	// Name tells groups apart for who looks at them through resilience.Walk.
	Name string
	// Max is how many keys the group remembers, by default 1000. It may hold more
	// while more are in use: a key with a call in flight, or whose policy is not
	// idle, is never dropped. A breaker is not idle while it is open, or soon after
	// failures; nor is a retry that holds less of its budget than a new one,
	// until ten seconds after it last asked for a retry.
	Max int
	// Keys are the exceptions: keys with a policy of their own, which is always
	// remembered. Over HTTP a key is what httpmw.HostKey returns, with the port, as
	// in "https://api.example.com:443", and over gRPC the target and the method, as in
	// "dns:///payments:443/payments.v1.Payments/Charge".
	Keys map[string]resilience.Policy
}

// Group is a Policy that applies to each operation the policy of its key,
// Next.Key. The policies are forks of a template: each has state of its own, and
// all count together with the template.
//
// A Group is safe for concurrent use.
type Group struct {
	cfg      Config
	template resilience.Policy
	entries  sync.Map // string to *entry
	len      atomic.Int64
	sweepAt  atomic.Int64 // a longer len makes sweep run
	sweeping sync.Mutex   // held by the one that evicts, who writes sweepAt
	evicted  atomic.Uint64
}

// entry is a key's policy.
type entry struct {
	policy resilience.Policy
	// pins counts the calls that use the entry. Adding dead to it makes it
	// negative: the entry is being dropped, and who finds it so looks it up anew.
	pins atomic.Int64
	used atomic.Bool // since the last sweep
}

const dead = -1 << 40

// New returns a Group of forks of template, or an error that says what to change.
func New(template resilience.Policy, c Config) (*Group, error) {
	if absent(template) {
		return nil, fmt.Errorf("keyed %q: the template is nil: give it a policy, or a pipeline of them", c.Name)
	}
	if c.Max == 0 {
		c.Max = defaultMax
	}
	if c.Max < 0 {
		return nil, fmt.Errorf("keyed %q: Config.Max is %d: must be at least 1, or 0 for the default of %d", c.Name, c.Max, defaultMax)
	}
	for k, p := range c.Keys {
		if absent(p) {
			return nil, fmt.Errorf("keyed %q: Config.Keys[%q] is nil: leave the key out, or give it resilience.Compose() to have no policy", c.Name, k)
		}
	}
	c.Keys = maps.Clone(c.Keys)
	g := &Group{cfg: c, template: template}
	g.sweepAt.Store(int64(c.Max))
	return g, nil
}

// absent reports whether p is nil, or a pointer that is.
func absent(p resilience.Policy) bool {
	for range resilience.Walk(p) {
		return false
	}
	return true
}

// Apply implements resilience.Policy.
func (g *Group) Apply(ctx context.Context, next resilience.Next) error {
	return g.apply(ctx, next.Key(), next)
}

func (g *Group) apply(ctx context.Context, key string, next resilience.Next) error {
	if len(g.cfg.Keys) > 0 {
		if p, ok := g.cfg.Keys[key]; ok {
			return p.Apply(ctx, next)
		}
	}
	e := g.pin(key)
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, (*pinned)(e), 0) }()
	err = e.policy.Apply(ctx, next)
	return err
}

// pinned is an entry that hears of the end of operations.
type pinned entry

func (p *pinned) Settle(uint64, error) { p.pins.Add(-1) }

// pin returns the entry of key, which stays until the pin is taken off.
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
			runtime.Gosched() // it is being dropped, or is about to be spared
			continue
		}
		// It is inserted pinned: its own insertion may make the group evict.
		e := &entry{policy: g.fork(key)}
		e.pins.Store(1)
		if _, lost := g.entries.LoadOrStore(key, e); lost {
			continue
		}
		if g.len.Add(1) > g.sweepAt.Load() {
			g.sweepFor(e)
		}
		return e
	}
}

// fork returns the policy of a new key. A template that is not a Forker has no state, so
// all keys share it.
func (g *Group) fork(key string) resilience.Policy {
	if f, ok := g.template.(resilience.Forker); ok {
		return f.Fork(key)
	}
	return g.template
}

// sweepFor makes room for e, which is pinned. If the policy of another key panics
// when it is asked whether it is idle, nobody will use e.
func (g *Group) sweepFor(e *entry) {
	done := false
	defer func() {
		if !done {
			e.pins.Add(-1)
		}
	}()
	g.sweep()
	done = true
}

// sweep drops entries that are unpinned, idle and not used since the last sweep
// until an eighth of the places is free, so that it is not needed again soon. It
// takes them at random, because a map has its keys in an order of its own in which
// the first would always be the victims. What was used it marks as unused, for the
// second round and for the next sweep. If too few could be dropped it is not tried
// again until an eighth has come on top of those that must be kept, or each new key
// would look at all of them.
func (g *Group) sweep() {
	if !g.sweeping.TryLock() {
		return // somebody else is at it
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

// evict drops e if nobody uses it and its policy is idle, and reports whether it did.
func (g *Group) evict(key any, e *entry) (drop bool) {
	if e.pins.Load() != 0 || !idle(e.policy) || !e.pins.CompareAndSwap(0, dead) {
		return false
	}
	defer func() {
		if !drop { // also if Idle panics, or those who wait for e would wait for ever
			e.pins.Add(-dead)
		}
	}()
	// Nobody can use it now, so what it says is final.
	if drop = idle(e.policy); drop {
		g.entries.CompareAndDelete(key, e)
		g.len.Add(-1)
		g.evicted.Add(1)
		retire(e.policy)
	}
	return drop
}

// retire calls the optional method Retire of a fork that the group has dropped.
func retire(p resilience.Policy) {
	if r, ok := p.(interface{ Retire() }); ok {
		r.Retire()
	}
}

func idle(p resilience.Policy) bool {
	i, ok := p.(interface{ Idle() bool })
	return !ok || i.Idle()
}

// For returns a policy that applies that of key, whatever the key of the
// operation. It costs nothing to keep.
func (g *Group) For(key string) resilience.Policy { return &member{g, key} }

type member struct {
	g   *Group
	key string
}

func (m *member) Apply(ctx context.Context, next resilience.Next) error {
	return m.g.apply(ctx, m.key, next)
}

// Unwrap returns the group, so that resilience.Walk finds what counts for the key.
func (m *member) Unwrap() []resilience.Policy { return []resilience.Policy{m.g} }

// Unwrap is used by metrics and debug until they use resilience.Walk.
func (g *Group) Unwrap() []resilience.Policy {
	all := []resilience.Policy{g.template}
	for _, k := range slices.Sorted(maps.Keys(g.cfg.Keys)) {
		all = append(all, g.cfg.Keys[k])
	}
	return all
}

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
			if !yield(resilience.Node{Policy: p, Key: k}) {
				return
			}
		}
	}
}

// All returns the keys that the group remembers, with their policies, in no order.
// These are forks only: resilience.Walk finds the template and the policies of
// Config.Keys.
func (g *Group) All() iter.Seq2[string, resilience.Policy] {
	return func(yield func(string, resilience.Policy) bool) {
		g.entries.Range(func(k, v any) bool { return yield(k.(string), v.(*entry).policy) })
	}
}

// Name returns the name from the Config.
func (g *Group) Name() string { return g.cfg.Name }

// Stats is what a Group has counted since it was made.
type Stats struct {
	Keys    int    // that it remembers, without those of Config.Keys
	Evicted uint64 // keys that it has forgotten
}

// Stats returns the counters.
func (g *Group) Stats() Stats {
	return Stats{Keys: int(g.len.Load()), Evicted: g.evicted.Load()}
}
