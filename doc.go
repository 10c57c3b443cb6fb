// Package resilience keeps one slow or broken dependency from taking down the
// services that call it.
//
// A [Policy] guards operations. The packages below this one hold one policy
// each: breaker, retry, bulkhead, limit, timeout and fallback. [Compose] puts them one
// inside the other, the first being the outermost, and [Run] or [Do] runs a function
// under them:
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
// Policies know nothing of what they guard, so one breaker guards a dependency
// whatever its calls return, over HTTP and gRPC alike. Package httpmw puts
// them around net/http, package grpcmw around gRPC, package stack has the stacks
// that are right for most services, and package keyed gives each host, or whatever
// else a key stands for, a policy of its own.
//
// # Order
//
// A call goes from the outermost policy to the operation and its result goes
// back the same way. The order that package stack uses is
//
//	fallback(              an answer when all else failed
//	  total timeout(       the time that the caller has
//	    keyed(             what follows, for each host
//	      retry(           tries again, within a budget
//	        breaker(       sees each attempt, rejects them while the host is silent
//	          bulkhead(    bounds what is in flight; free during the backoff
//	            timeout(   bounds one attempt
//	              operation
//
// # Writing a policy
//
// Implement [Policy] and check it with resiliencetest.TestPolicy. A policy that
// holds something until the operation is over says so through [Next.Settle]:
// operations such as an HTTP response, whose body is read after the call has
// returned, are [Lasting].
package resilience
