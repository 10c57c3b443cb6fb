// Package grpcmw puts policies around gRPC: [Client] around the calls of a connection,
// [Server] around the handlers of a server.
//
//	client := grpcmw.Client{Policy: stack.Client("payments")}
//	conn, err := grpc.NewClient(target, creds,
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
//	server := grpcmw.Server{Policy: stack.Server("orders")}
//	s := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
//
// Interceptors for a whole call, such as its log, come before them in the chain.
// Interceptors for one attempt, such as authentication, come after them:
//
//	your code --> log -->[ retry( breaker( bulkhead( timeout( ]--> auth --> connection
//	                     '------------- Policy --------------'
//
// # Errors
//
// Every error has a status (a method GRPCStatus), and errors.Is and errors.As find the
// policy's error in it. If the server's status is all there is to report, it comes back
// unchanged. Otherwise the code is
//
//	a breaker is open                 UNAVAILABLE
//	a bulkhead or a limit is full     RESOURCE_EXHAUSTED
//	a timeout, a deadline             DEADLINE_EXCEEDED
//	the caller canceled               CANCELLED
//	Policy is nil                     INTERNAL
//
// [CodeOutcome] decides which codes are failures, and [DefaultRetryable] which calls are
// retried. [KeyOf] returns the key of a method for the Keys of a keyed.Group.
//
// # Streams
//
// A Client never retries a stream: after a message went either way, only the caller knows
// what a second stream would repeat. A service config can make gRPC retry a stream until
// the first message of the server (gRFC A6).
//
// On a server, a stream is answered with its first message. A limit then releases its slot,
// so long-lived streams hold none; a bulkhead holds its slot to the end.
//
// # Overload
//
// A call that a limit on the server rejects, with the reason [resilience.Limited], gets
// RESOURCE_EXHAUSTED with a pushback of -1. A Client does not retry such a call, and
// neither does gRPC by a service config. It is a success for a breaker: the server works.
//
// # Retries of gRPC
//
// If the service config has a retry policy for a method, gRPC retries the method and Policy
// does not: otherwise three attempts of each would be nine. All attempts of gRPC are one
// attempt for Policy, with one slot and one outcome. With grpc.WithDisableRetry, neither
// retries such a method. With grpc.WithDisableServiceConfig, the resolver's service config
// has no effect, and Policy retries.
//
// Whatever the service config contains, gRPC sends a call once more if the server provably
// did not process it. This is part of an attempt, too.
//
// # Several hops
//
// From the second attempt on, Client sends the metadata
//
//	retry-attempt: 2
//
// and Server puts the number into the context of its handler. Calls that the handler makes
// with this context, over gRPC or HTTP, pass the number on, and their retry makes one
// attempt only. So three hops of three attempts each do not turn one call into 27. This
// takes a Server at each hop, also for exempt methods; a hop that needs no policy has
// resilience.Compose(). A Client sends no such metadata for methods that it exempts.
package grpcmw
