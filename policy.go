package resilience

import "context"

// Policy guards operations. It decides whether, when, how often and for how long the
// operation inside it runs.
//
// The contract, which resiliencetest.TestPolicy checks:
//
//   - Apply is safe for concurrent use.
//   - Apply calls next.Run zero or more times, one call after another, and does not
//     return while a call of next.Run is running.
//   - The context that Apply passes to next derives from ctx.
//   - errors.Is and errors.As find the error of next in the error that Apply returns.
//   - If Apply returns an error that matches ErrRejected, next did not run.
//   - If ctx is already done, Apply counts nothing and returns ContextError(ctx).
//   - If next panics or calls runtime.Goexit, Apply releases what it holds, counts the
//     outcome, and does not recover.
//   - Apply holds no lock while next, or other user code, runs.
//   - Apply starts no goroutine on the success path.
//   - What Apply holds until the operation has ended, it settles through next.Settle.
//     Before Apply runs next again, waits, or returns a result of its own instead of
//     next's, it calls next.Discard.
type Policy interface {
	Apply(ctx context.Context, next Next) error
}

// PolicyFunc is a function that is a Policy. It has no state, so every key shares it.
type PolicyFunc func(ctx context.Context, next Next) error

// Apply calls f.
func (f PolicyFunc) Apply(ctx context.Context, next Next) error { return f(ctx, next) }

// Operation is the work that policies guard. An adapter implements it on its
// per-call struct, which costs one allocation for a call instead of one for
// each captured variable of a closure. Run may be called several times, one
// call after another.
type Operation interface {
	Run(ctx context.Context) error
}

// Func is an Operation that is over when it returns.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Moment is a point in the life of an operation that goes on after Run has
// returned. The zero value in a Config stands for the default of that policy.
// For an operation that is not Lasting the two moments are one.
type Moment uint8

const (
	// Answered is when the operation has shown that it works: an HTTP response
	// has its headers, a gRPC stream has its first message or its end.
	Answered Moment = iota + 1
	// Ended is when nothing of the operation is left: an HTTP body is at EOF or
	// closed, a gRPC stream is finished.
	Ended
)

// String returns "answered", "ended" or "default".
func (m Moment) String() string {
	switch m {
	case Answered:
		return "answered"
	case Ended:
		return "ended"
	default:
		return "default"
	}
}

// Lasting is an Operation that can go on after Run has returned, as an HTTP
// response does while its body is read. Embed a Tail to get Hold.
type Lasting interface {
	Operation
	// Hold reports whether the operation has yet to come to the moment. If so
	// it takes s over and settles it exactly once, with the error that the
	// operation came to at that moment. Of a run that ended meanwhile on another
	// goroutine it settles s at once and returns true.
	Hold(at Moment, s Settler, token uint64) bool
	// Discard ends, before it returns, what the last Run left going on: nobody
	// will see its result.
	Discard()
}

// Answering is an Operation that may answer while it still runs, as the handler of
// a stream does that goes on to write to it.
type Answering interface {
	Operation
	// Await, which is called before Run, takes s over and settles it exactly once:
	// with nil when the operation answers, or with what it ended with if it ends
	// before that, or is never run. It returns false, and leaves s alone, if the
	// operation has answered or ended already, as one that is run twice has.
	Await(s Settler, token uint64) bool
}

// Settler hears how an operation ended. The token is what the policy gave to
// Next.Settle: a generation, a slot, nothing.
type Settler interface {
	Settle(token uint64, err error)
}

// Forker is a Policy that can serve many keys.
type Forker interface {
	Policy
	// Fork returns a policy in its initial state, for key, which errors and events
	// report; "" is no key. The fork has state of its own and shares configuration and
	// counters with the policy that it was made from. A policy without state may return
	// itself.
	Fork(key string) Policy
}

// Next is what lies inside a policy: the policies further in and the operation.
// It is an opaque value of five words, passed in registers.
type Next struct {
	inner []Policy
	op    Operation
}

// Run runs what lies inside. A policy may call it again after it has returned.
func (n Next) Run(ctx context.Context) error {
	if len(n.inner) == 0 {
		return n.op.Run(ctx)
	}
	return n.inner[0].Apply(ctx, Next{n.inner[1:], n.op})
}

// Settle has s settled exactly once: now, or at the moment given if the
// operation has not come to it yet. s hears err if that is not nil, and
// otherwise the error that the operation came to at that moment. A zero Moment
// is Ended.
//
// Call it deferred, with err preset to ErrAborted, so that a panic and
// runtime.Goexit settle too:
//
//	err = resilience.ErrAborted
//	defer func() { next.Settle(resilience.Ended, err, (*slot)(b), 0) }()
//	err = next.Run(ctx)
//	return err
func (n Next) Settle(at Moment, err error, s Settler, token uint64) {
	switch op := n.op.(type) {
	case Func: // is never Lasting, and quicker to tell
	case Lasting:
		if at != Answered {
			at = Ended
		}
		if err != nil {
			s = &verdict{s, err}
		}
		if op.Hold(at, s, token) {
			return
		}
	}
	s.Settle(token, err)
}

// verdict keeps the error that a policy has already decided on, for an
// operation that is still going on.
type verdict struct {
	s   Settler
	err error
}

func (v *verdict) Settle(token uint64, _ error) { v.s.Settle(token, v.err) }

// Await has s settled as soon as the operation answers, be it while it still runs, if
// it is Answering and has not answered before; else it does nothing. It reports which.
// A policy calls it before Run, and Settle if it has to:
//
//	if next.Await(s, token) {
//		return next.Run(ctx)
//	}
//	err = resilience.ErrAborted
//	defer func() { next.Settle(resilience.Answered, err, s, token) }()
//	err = next.Run(ctx)
//	return err
func (n Next) Await(s Settler, token uint64) bool {
	if _, ok := n.op.(Func); ok { // is quicker to tell
		return false
	}
	a, ok := n.op.(Answering)
	return ok && a.Await(s, token)
}

// Discard gives up the result of the last Run, so that what lies inside is
// settled and free. A policy calls it before it runs next again or answers in
// its place, and there before any wait and before code of the user.
func (n Next) Discard() {
	if l, ok := n.op.(Lasting); ok {
		l.Discard()
	}
}

// Key returns the key of the operation, "" if it has none.
func (n Next) Key() string {
	if k, ok := n.op.(interface{ Key() string }); ok {
		return k.Key()
	}
	return ""
}

// Lasting reports whether the operation can go on after Run has returned.
func (n Next) Lasting() bool {
	if _, ok := n.op.(Func); ok { // is quicker to tell
		return false
	}
	_, ok := n.op.(Lasting)
	return ok
}
