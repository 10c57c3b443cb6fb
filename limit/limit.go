// Package limit provides an adaptive limit on the requests in a handler. It finds the
// handler's capacity by trials, so that an overload costs no throughput.
//
//	l, err := limit.New(limit.Config{Name: "orders"})
//	mux.Handle("/orders", httpmw.Server{Policy: l}.Wrap(orders))
package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "limit"

// ErrLimited matches every rejection by a limit with errors.Is. The error itself is a
// *resilience.Rejection.
var ErrLimited error = &resilience.Rejection{Policy: policy, Reason: resilience.Limited}

// Limit bounds the number of requests in a handler. It finds the bound by trials, so it
// needs no configuration. Without proof of an overload it limits nothing.
//
// Limit learns the uncontended service time: how long a request is in the handler while as
// many requests arrive as are answered. It suspects an overload when requests take over
// twice as long and more arrive than are answered. From then on it admits no more requests
// than leave. Then a trial admits only twice the number of requests that the handler needs
// by Little's law. If requests waited for a processor for most of their time, and wait half as
// long now, this limit is proven and stays in force. Otherwise the trial compares the
// throughput, which is the number of useful completions per second. A completion is useful if
// the caller has not left. If the throughput stays, the other requests were queued inside the
// handler: the limit is proven. If the throughput falls in proportion, the handler is slow but
// has no queue, and Limit limits nothing again. Otherwise the two measurements give the knee,
// the least number of requests in flight with which the handler reaches its full throughput,
// and the limit becomes one and a half times the knee.
//
// A proof has an age. Limit tries twice and half the limit from time to time. If twice as many
// requests make more throughput, the limit rises, and it ends if that happens twice in a row.
// If the throughput rises by half or falls by a third, Limit tries twice the limit at once. The
// limit ends when nothing useful completes for a second while requests are queued, and when no
// request was queued for a second. After a trial that shows no queue, Limit waits longer for the
// next one. A request that is in the handler for more than sixteen service times, such as a
// slow upload, does not count against the limit, but it counts against Config.Max.
//
// A request that cannot enter is queued until a slot is free or its caller leaves. The queue is
// ordered by the request's priority, then by the share of the service that its caller has had
// lately, then by arrival (see [resilience.Priority]). While more requests arrive than are
// useful, the newest goes first among those that the handler has no capacity for, because the
// callers of the oldest would leave before they get an answer.
//
// An overload begins under a proven limit, when more requests have arrived than were useful for
// a fifth of a second or two service times, whichever is longer, and the handler needs longer than
// that to answer the queued requests. In an overload, Limit rejects a request that
// has been queued for as long as the service time, and for at least 12 ms. Requests of
// priorities and callers that the handler has capacity for may be queued eight times as long.
// Limit also rejects a request whose caller has less time left than the service time. The
// overload ends soon after no more requests arrive than are useful.
//
// An operation that goes on after its answer, such as a stream or an upgraded connection,
// frees its slot when it answers. A limit cannot pace the work after that.
//
// A limit must see the whole load, so it belongs into the server. In one of many clients its
// trials would always find that it is too low.
//
// A Limit is safe for concurrent use.
type Limit struct {
	*shared
	key string // the key in a keyed.Group
	rejections

	// word holds, from the highest bit down, the watched bit, the rare bit, the number of
	// requests from which on the handler is watched, and the number in the handler. While the
	// watched bit is clear, a request that finds a free slot enters by adding one and leaves by
	// subtracting one. A goroutine that has locked mu sets the watched bit, which excludes both.
	// Only the holder of mu writes a word with the watched bit set.
	word atomic.Uint64
	// crowd shares a cache line with word, which every request loads.
	crowd crowd

	mu     sync.Mutex // guards the fields below
	gate   gate
	now    int64 // the latest time seen, since time must not go back
	events eventQueue
	began  atomic.Pointer[time.Time] // the wall time at which the present state began
}

const (
	flightBits   = 32
	flightMask   = 1<<flightBits - 1
	watchedBit   = 1 << 63
	rareBit      = 1 << 62 // requests are so rare that each of them is a sample
	levelMask    = rareBit - 1
	sampleWeight = 8 // while they are not rare, one of sampleWeight requests is a sample
)

// sampled reports whether a request that leaves at a time is a sample. It takes its luck from
// the time, so that a run in virtual time can be repeated.
func sampled(now int64) bool { return uint64(now)*0x9e3779b97f4a7c15>>32%sampleWeight == 0 }

// room reports whether a request may enter without the lock.
func room(word uint64) bool {
	return word&watchedBit == 0 && word&flightMask < word&levelMask>>flightBits
}

// shared is the part that a limit and its forks share.
type shared struct {
	count     counters.Set             // first, because of its alignment
	cfg       Config                   // as given to New
	settings  atomic.Pointer[settings] // as given to New or Update
	clock     vclock.Clock
	root      *Limit
	trials    [5]atomic.Uint64
	rejected  [priorities]atomic.Uint64 // by priority
	overloads atomic.Uint64
}

// The counters.
const (
	useful = iota
	abandoned
	shed
	queueFull
	canceled
)

// New returns a Limit, or an error that names the field of c to change.
func New(c Config) (*Limit, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &shared{cfg: c, clock: vclock.New(c.Clock)}
	s.settings.Store(c.settings())
	s.root = fork(s, "")
	return s.root, nil
}

func fork(s *shared, key string) *Limit {
	l := &Limit{shared: s, key: key, gate: newGate(s.settings.Load())}
	l.word.Store(uint64(l.gate.search.WatchFrom())<<flightBits | rareBit)
	l.began.Store(new(s.clock.Now()))
	return l
}

// Apply implements resilience.Policy. It returns a *resilience.Rejection that matches
// ErrLimited if it rejects the request. If ctx ends while the request is queued, it returns
// the error of ctx.
func (l *Limit) Apply(ctx context.Context, next resilience.Next) (err error) {
	entered, err := l.enter(ctx, next)
	if err != nil {
		return err
	}
	if l.await(next, entered) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	if next.Lasting() {
		defer func() { next.Settle(resilience.Answered, err, (*slot)(l), uint64(entered)) }()
	} else {
		defer func() { l.end(ctx, entered, err) }()
	}
	err = next.Run(ctx)
	return err
}

// await registers the Limit to free the slot when the operation answers. It reports
// whether the operation supports that. Await is user code: if it panics, the slot is freed.
func (l *Limit) await(next resilience.Next, entered int64) (awaits bool) {
	returned := false
	defer func() {
		if !returned {
			l.leave(entered, true, true)
		}
	}()
	l.giveWay(entered)
	awaits = next.Await((*slot)(l), uint64(entered))
	returned = true
	return awaits
}

// A slot is a Limit whose slots are freed when operations answer. If err is the end of a
// context, the caller has left.
type slot Limit

// Settle frees the slot of the request that entered at the given time. A request that an
// inner policy rejected is no evidence about the throughput: the handler did not work.
func (s *slot) Settle(entered uint64, err error) {
	left, refused := false, false
	defer func() { (*Limit)(s).leave(int64(entered), !left, refused) }() // deferred: methods of err may panic
	refused = resilience.Rejected(err)
	left = err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// end frees the slot of a request that entered at the given time. The request was useful
// if its caller has not left.
func (l *Limit) end(ctx context.Context, entered int64, err error) {
	left, refused := false, false
	defer func() { l.leave(entered, !left, refused) }() // deferred: methods of err and ctx may panic
	refused = resilience.Rejected(err)
	left = ctx.Err() != nil
}

// rejections are the rejections of a limit. All rejections for one reason are one error.
type rejections struct {
	full, late, hopeless atomic.Pointer[resilience.Rejection]
}

// rejection returns the error for a reason. It makes the error at the first call.
func (l *Limit) rejection(made *atomic.Pointer[resilience.Rejection], detail string) error {
	return policykit.Reject(made, resilience.Rejection{
		Policy: policy, Name: l.cfg.Name, Key: l.key, Reason: resilience.Limited, Detail: detail,
	})
}

// enter takes a slot and returns the time at which it got it. It queues the request if no
// slot is free.
func (l *Limit) enter(ctx context.Context, next resilience.Next) (entered int64, err error) {
	if ctx.Err() != nil {
		return 0, resilience.ContextError(ctx)
	}
	now := l.clock.Elapsed()
	for w := l.word.Load(); room(w); w = l.word.Load() {
		if l.word.CompareAndSwap(w, w+1) {
			return now, nil
		}
	}
	return l.arrive(ctx, next, now)
}

// leave frees a slot. Without the watched bit, only a sample of the requests is evaluated.
func (l *Limit) leave(entered int64, ok, refused bool) {
	if refused {
		l.count.Add(useful)
		l.gate.forget(l.lock(l.clock.Elapsed()), entered)
		l.unlock(context.Background())
		return
	}
	now := l.clock.Elapsed()
	if !ok {
		l.count.Add(abandoned)
		l.complete(entered, now, false, 1)
		return
	}
	l.count.Add(useful)
	weight := 0
	if sampled(now) {
		weight = sampleWeight
	} else {
		for w := l.word.Load(); w&(watchedBit|rareBit) == 0; w = l.word.Load() {
			if l.word.CompareAndSwap(w, w-1) {
				return
			}
		}
	}
	l.complete(entered, now, true, weight)
}

// complete is leave for a request that is evaluated. It stands for weight requests, and for
// none if it was not sampled.
func (l *Limit) complete(entered, now int64, ok bool, weight int) {
	l.gate.leave(l.lock(now), entered, ok, weight)
	l.unlock(context.Background())
}

// lock locks mu and takes the word over. It returns the later of now and the latest time
// seen. If the clock was set back by over a second, it returns now.
func (l *Limit) lock(now int64) int64 {
	l.mu.Lock()
	l.gate.inFlight = int(l.word.Or(watchedBit) & flightMask)
	if s := l.settings.Load(); s != l.gate.settings {
		l.gate.update(s)
	}
	if now < l.now-int64(time.Second) {
		l.now = now
		l.gate.restart(now)
	}
	l.now = max(l.now, now)
	l.gate.search.Waited(l.crowd.wait.Load())
	return l.now
}

// unlock calls release, and then the observer with the queued events, without a lock.
func (l *Limit) unlock(ctx context.Context) {
	overload := l.gate.search.Overload()
	changed := l.events.set(overload, l.now, l.cfg.Observer != nil)
	if changed && overload {
		l.overloads.Add(1)
	}
	deliver := l.events.claim()
	l.release()
	if changed {
		l.began.Store(new(l.clock.Now()))
	}
	if deliver {
		l.deliver(ctx)
	}
}

// deliver calls the observer with the queued events. The observer may use the limit, panic
// or end the goroutine; in the last two cases the next call of unlock delivers the rest.
func (l *Limit) deliver(ctx context.Context) {
	returned := false
	defer func() {
		if !returned {
			l.mu.Lock()
			l.events.busy = false
			l.mu.Unlock()
		}
	}()
	for {
		l.mu.Lock()
		c, more := l.events.next()
		l.mu.Unlock()
		if !more {
			returned = true
			return
		}
		kind, level := EventOverloadEnded, slog.LevelInfo
		if c.overload {
			kind, level = EventOverloaded, slog.LevelWarn
		}
		policykit.Observe(ctx, l.cfg.Observer, resilience.Event{
			Kind: kind, Level: level, Time: l.clock.At(c.at), Policy: policy, Name: l.cfg.Name, Key: l.key,
			From: states[!c.overload], To: states[c.overload],
		})
	}
}

// release wakes the requests that have left the queue, stores the word, and unlocks mu.
func (l *Limit) release() {
	g := &l.gate
	for i, w := range g.decided {
		switch w.Value.decision {
		case overdue, hopeless:
			l.count.Add(shed)
		case displaced:
			l.count.Add(queueFull)
		}
		close(w.Value.ready)
		g.decided[i] = nil
	}
	g.decided = g.decided[:0]
	l.tally()
	w := uint64(g.search.WatchFrom())<<flightBits | uint64(g.inFlight)
	if g.watched {
		w |= watchedBit
	}
	if g.search.Rare() {
		w |= rareBit
	}
	l.word.Store(w)
	check := !g.looks && (g.queued() > 0 || g.search.Overload())
	g.looks = g.looks || check
	l.mu.Unlock()
	if check {
		l.clock.AfterFunc(time.Second, l.look)
	}
}

// look evaluates what follows from time alone, since no request may come to show it. It is
// called once a second while requests are queued or an overload lasts.
func (l *Limit) look() {
	now := l.lock(l.clock.Elapsed())
	l.gate.looks = false
	l.gate.tick(now)
	l.unlock(context.Background())
}

// Update changes Max, MaxQueue and Shadow to those of c, for l, its origin and all forks. The
// other fields cannot be changed: Update returns an error if c has another Name, and ignores
// Observer and Clock. If c is not valid, Update changes nothing and returns an error that names
// the field to change. The limit keeps what it has learned, except that a change of Shadow
// ends a limit that is in force. Requests in flight stay, also above a lower Max. Forks follow
// with one of their next requests.
func (l *Limit) Update(c Config) error {
	if c.Name != l.cfg.Name {
		return fmt.Errorf("limit %q: Config.Name is %q: must not change: make another limit", l.cfg.Name, c.Name)
	}
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	l.settings.Store(c.settings())
	l.gate.tick(l.lock(l.clock.Elapsed()))
	l.unlock(context.Background())
	return nil
}

// Name returns the name from the Config.
func (l *Limit) Name() string { return l.cfg.Name }

// Fork implements resilience.Forker. The fork has its own limit. It shares the
// configuration and the counters of l.
func (l *Limit) Fork(key string) resilience.Policy { return fork(l.shared, key) }

// Idle reports whether no request is in the handler or queued.
func (l *Limit) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.word.Load()&flightMask == 0 && l.gate.queue.Len() == 0
}
