// Package grpcmw puts policies around gRPC: [Client] around the calls of a
// connection, [Server] around the handlers of a server.
//
//	client := grpcmw.Client{Policy: stack.Client("payments")}
//	conn, err := grpc.NewClient(target, creds,
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
//	server := grpcmw.Server{Policy: stack.Server("orders")}
//	s := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
//
// Put them outside of what is for one attempt, such as authentication, and inside
// of what is for a call, such as its log:
//
//	your code --> log -->[ retry( breaker( bulkhead( timeout( ]--> auth --> connection
//	                     '------------- Policy --------------'
//
// # Errors
//
// Every error has a status (it has the method GRPCStatus), and is what it was for
// errors.Is and errors.As. That of the server comes back untouched if it is all
// there is to say. Else
//
//	a breaker is open                 UNAVAILABLE
//	a bulkhead or a limit is full     RESOURCE_EXHAUSTED
//	a timeout, a deadline             DEADLINE_EXCEEDED
//	the caller canceled               CANCELLED
//
// What a status says about the health of a server is in [CodeOutcome], and what is
// tried again in [DefaultRetryable].
//
// # Streams
//
// A stream is never tried again here: once a message has gone either way nobody but
// its user knows what a second stream would repeat. The service config of the
// server can have gRPC do it as long as nothing has come back (gRFC A6).
//
// On a server a stream answers with its first message. That is when a limit gets its
// place back, so long-lived streams take none; a bulkhead has to wait for the end.
//
// # Overload
//
// What a limit on the server refuses, with the reason [resilience.Limited], is
// RESOURCE_EXHAUSTED with a pushback of -1: Client, and gRPC by a service config, do not
// make such a call again, and for a breaker the server is alive.
//
// # Retries of gRPC
//
// A method that has a retry policy in the service config is tried again by gRPC and
// not by Policy, so that three attempts of one and three of the other are three. All
// of them are one attempt for Policy, with one slot and one outcome. With
// grpc.WithDisableRetry that leaves nobody to retry it; with
// grpc.WithDisableServiceConfig a service config of the resolver does not count, and
// Policy retries.
//
// What never reached the server, or what the server has refused unseen, gRPC sends
// once more by itself, whatever the service config says. That is part of an attempt
// too.
//
// # Several hops
//
// From the second attempt on, Client sends the metadata
//
//	retry-attempt: 2
//
// and Server puts the number into the context of its handler, from where a further
// call takes it, over gRPC or over HTTP. A retry that finds it there does not try
// again, so three hops of three attempts each do not turn one call into 27. That takes a
// Server at each hop, with or without a Policy; for methods that are exempt it
// passes nothing on.
package grpcmw
