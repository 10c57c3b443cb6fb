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

// PolicyFunc is a function that is a Policy. It has no state, so every key shares it. A nil
// PolicyFunc guards nothing.
type PolicyFunc func(ctx context.Context, next Next) error

// Apply calls f, or next if f is nil.
func (f PolicyFunc) Apply(ctx context.Context, next Next) error {
	if f == nil {
		return next.Run(ctx)
	}
	return f(ctx, next)
}

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
// response does while its body is read. An adapter embeds a Tail, which has Hold,
// and writes Discard. Only if the Tail is embedded does Next.Discard wait until the
// run is settled.
type Lasting interface {
	Operation
	// Hold returns false if the operation has come to the moment already, or does
	// not go on. Otherwise it takes s over and settles it exactly once, at the
	// moment, with the operation's error at that moment. If another goroutine has
	// ended the run before the moment, Hold settles s at once and returns true.
	Hold(at Moment, s Settler, token uint64) bool
	// Discard ends what the last Run left going on, before it returns. The caller
	// will never see its result.
	Discard()
}

// awaiter is an Operation that can answer while Run is running. Early has Await.
type awaiter interface {
	// Await is called before Run. It takes s over and settles it exactly once: with
	// nil when the operation answers, or with its error if it ends before that or is
	// never run. Otherwise, as after a first run, it returns false and leaves s alone.
	Await(s Settler, token uint64) bool
}

// Settler is called once, when an operation comes to the moment given to
// Next.Settle, or when it answers after Next.Await. The token is the one given
// there, such as a generation or a slot; err is the operation's error. Settle may be
// called on any goroutine.
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

// Next is what a policy guards: the policies inside it and the operation. It is an
// opaque value of five words, passed in registers.
type Next struct {
	inner []Policy
	op    Operation
}

// Run runs the policies inside and the operation. A policy may call Run again after it
// has returned.
func (n Next) Run(ctx context.Context) error {
	if len(n.inner) == 0 {
		return n.op.Run(ctx)
	}
	return n.inner[0].Apply(ctx, Next{n.inner[1:], n.op})
}

// Settle settles s exactly once: now, or at the moment if the operation has not
// come to it. The error is err if that is not nil, and otherwise the operation's
// error at that moment. A zero Moment is Ended.
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
	case Func: // never Lasting, and the faster check
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

// verdict settles s with the error that the policy has decided on, whatever the
// operation ends with.
type verdict struct {
	s   Settler
	err error
}

func (v *verdict) Settle(token uint64, _ error) { v.s.Settle(token, v.err) }

// Await settles s exactly once, when the operation answers, also while it is still
// running. It returns false and leaves s alone if the operation cannot answer before
// Run returns, or has answered already. A policy calls Await before Run, and Settle if
// Await returns false:
//
//	if next.Await(s, token) {
//		return next.Run(ctx)
//	}
//	err = resilience.ErrAborted
//	defer func() { next.Settle(resilience.Answered, err, s, token) }()
//	err = next.Run(ctx)
//	return err
func (n Next) Await(s Settler, token uint64) bool {
	if _, ok := n.op.(Func); ok { // the faster check
		return false
	}
	a, ok := n.op.(awaiter)
	return ok && a.Await(s, token)
}

// Discard gives up the result of the last Run. When it returns, every Settler of that
// run has returned, also one that another goroutine has called, so that the policies
// inside are free. A policy calls Discard before it runs next again, waits, calls user
// code, or answers instead of next.
//
// A Settler must not call Discard of the operation that it settles, which would wait for
// the Settler.
func (n Next) Discard() {
	switch op := n.op.(type) {
	case Func: // has no result, and is the faster check
	case Lasting:
		op.Discard()
		if t, ok := op.(interface{ wait() }); ok { // embeds a Tail
			t.wait()
		}
	case interface{ discard() }: // of Do
		op.discard()
	}
}

// Key returns the key of the operation, "" if it has none.
func (n Next) Key() string {
	if k, ok := n.op.(interface{ Key() string }); ok {
		return k.Key()
	}
	return ""
}

// Rank returns the priority of the operation, in range, and the name of its caller. An
// operation without these optional methods is Normal, and its caller is "".
//
// A policy calls Rank only when it has to choose between operations, because the methods are
// user code that may be slow or panic. It holds no lock and no slot when it does.
func (n Next) Rank() (p Priority, caller string) {
	if _, ok := n.op.(Func); ok { // the faster check
		return Normal, ""
	}
	if o, ok := n.op.(interface{ Priority() Priority }); ok {
		p = o.Priority().inRange()
	}
	if o, ok := n.op.(interface{ Caller() string }); ok {
		caller = o.Caller()
	}
	return p, caller
}

// Lasting reports whether the operation can go on after Run has returned.
func (n Next) Lasting() bool {
	if _, ok := n.op.(Func); ok { // the faster check
		return false
	}
	_, ok := n.op.(Lasting)
	return ok
}
