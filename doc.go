// Package resilience keeps one slow or broken dependency from taking down the services
// that call it.
//
// A [Policy] guards operations. Each package below this one holds one policy: breaker,
// retry, bulkhead, limit, timeout, fallback and stale. [Compose] puts policies one inside
// the other, the outermost first, and [Run] or [Do] runs a function under them:
//
//	p := resilience.Compose(
//		resilience.Must(retry.New(retry.Config{Name: "users"})),
//		resilience.Must(breaker.New(breaker.Config{Name: "users"})),
//		resilience.Must(timeout.New(timeout.Config{Name: "users", Timeout: time.Second})),
//	)
//	user, err := resilience.Do(ctx, p, func(ctx context.Context) (User, error) {
//		return db.User(ctx, id)
//	})
//
// A policy does not depend on what it guards, so one breaker guards a dependency
// whatever its calls return, over HTTP and gRPC alike. Package httpmw puts policies
// around net/http and package grpcmw around gRPC. Package stack has the stacks that fit
// most services. Package keyed gives each key, such as a host, a policy of its own.
// Packages metrics and debug show what policies do.
//
// # Order
//
// A call goes from the outermost policy to the operation, and its result goes back the
// same way. Package stack uses this order:
//
//	fallback(              answers if all else failed
//	  total timeout(       the time that the caller has
//	    keyed(             the policies below, for each host
//	      retry(           tries again, within a budget
//	        breaker(       judges each attempt; rejects attempts while the host is silent
//	          bulkhead(    bounds the calls in flight; its slot is free during the backoff
//	            timeout(   bounds one attempt
//	              operation
//
// # Writing a policy
//
// Implement [Policy] and check it with resiliencetest.TestPolicy. A policy that holds
// something until the operation has ended settles it through [Next.Settle], because a
// [Lasting] operation, such as an HTTP response, goes on after Run has returned.
//
// # Optional methods
//
// The module looks for these methods on policies, operations and errors:
//
//	on a Policy
//	Report(details bool) Report     Reporter; its metrics and its card on the debug page
//	Fork(key string) Policy         Forker; a policy of its own for each key
//	Idle() bool                     keyed.Group may drop the fork: that loses nothing but history
//	Retire()                        keyed.Group dropped the fork; it moves its counts to its origin
//	Unwrap() []Policy               Walk; the policies inside this one
//	Nodes() iter.Seq[Node]          Walk; the policies inside this one, by key
//	String() string, Name() string  text for people
//
//	on an Operation
//	Lasting                         the operation goes on after Run has returned; see Tail
//	Await(Settler, uint64) bool     the operation may answer while Run is running; see Early
//	Key() string                    the key by which keyed.Group picks a policy
//	Priority() Priority             how much the operation matters; see Next.Rank
//	Caller() string                 the caller's name; a limit gives each caller a fair share
//
//	on an error
//	Outcome() Outcome               what the error means for the dependency; see Answer
//	Retryable() bool                whether a retry may help
//	RetryAfter() time.Duration      the least wait before a retry
//	Timeout() bool                  whether the operation timed out
//	Busy() bool                     whether the dependency sheds load: such an answer earns
//	                                no retry budget
//
//	on the cause of a context
//	Ended(context.Context) bool     whether this cause is a timeout that ended the context;
//	                                any other cause is a cancellation by the caller
package resilience
