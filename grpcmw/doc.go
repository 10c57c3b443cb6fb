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
// policy's error in it. If the policies add nothing to the server's status, the caller gets
// it unchanged. Otherwise the code is
//
//	a breaker is open                 UNAVAILABLE
//	a bulkhead or a limit is full     RESOURCE_EXHAUSTED
//	a timeout, a deadline             DEADLINE_EXCEEDED
//	the caller canceled               CANCELLED
//	Policy is nil                     INTERNAL
//
// [CodeOutcome] decides which codes are failures, and [DefaultRetryable] which calls are
// retried. [KeyOf] returns the key of a method for keyed.Config.Keys.
//
// # Streams
//
// A Client never retries a stream: once a message was sent or received, only the caller
// knows what a second stream would repeat. A service config can make gRPC retry a stream
// until the first message of the server (gRFC A6).
//
// On a server, a stream is answered with its first message. A limit then releases its slot,
// so long-lived streams hold none; a bulkhead holds its slot to the end.
//
// # Overload
//
// A limit on the server rejects a call with the reason [resilience.Limited]. The call gets
// RESOURCE_EXHAUSTED with a pushback of -1. Neither a Client nor a service config retries
// it. For a breaker the call is a success: the server works.
//
// # Retries of gRPC
//
// If the service config has a retry policy for a method, gRPC retries the method and Policy
// does not: otherwise three attempts of each would make nine. All attempts of gRPC are one
// attempt for Policy, with one slot and one outcome. With grpc.WithDisableRetry, neither
// retries such a method. With grpc.WithDisableServiceConfig, the resolver's service config
// has no effect, and Policy retries.
//
// With or without a service config, gRPC sends a call once more if the server provably did
// not process it. For Policy this is not another attempt.
//
// # Endpoints
//
// [WithEndpoints] makes a connection choose among the servers behind its target, so that one
// that is down, hangs, fails or is slow costs no success. A retry then goes to another
// server. [Endpoints] is the same with an observer and metrics. Both use experimental
// packages of gRPC: balancer, balancer/endpointsharding, balancer/pickfirst and resolver.
//
// # Several hops
//
// From the second attempt on, Client sends the metadata
//
//	retry-attempt: 2
//
// and Server puts the number into the context of its handler. Calls that the handler makes
// with this context, over gRPC or HTTP, pass the number on, and their retry makes one
// attempt only. So three hops of three attempts each do not turn one call into 27. Each hop
// needs a Server for this, also for exempt methods. Without another policy, its Policy is
// resilience.Compose(). A Client sends no such metadata for methods that it exempts.
package grpcmw
