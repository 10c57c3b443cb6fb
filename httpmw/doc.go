// Package httpmw puts policies around net/http: [Transport] around the requests
// of a client, [Server] around the handlers of a server.
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// Both change nothing that they need not. A client gets the responses and errors
// that net/http gives, streams included; a response of 503 is a failure for the
// policies and a response for the caller. A handler has the abilities of its
// http.ResponseWriter, and its panics are left to net/http.
//
// What counts as a failure is the same on both sides, see [StatusOutcome]; for
// what a client tries again, see [DefaultRetryable].
//
// # Where they are
//
// A Transport is between an http.Client and the transport that it would use
// without. What is outside of it happens once for each call, or each hop of a
// redirect; what is inside of the policies, once for each attempt.
//
//	     a request goes in |                    ^ its response comes back
//	                       v                    |
//	+- http.Client --------- redirects, cookies, Timeout ------------------+
//	| +- other transports -- a span, a token, for each call -------------+ |
//	| | +- Transport ------- hands over the last response -------------+ | |
//	| | | +- Policy -------- keyed( retry( breaker( … ---------------+ | | |
//	| | | | +- Base -------- a span, a token, for each attempt ----+ | | | |
//	| | | | |             http.Transport: connections              | | | | |
//
// A Server is between net/http, or a router, and a handler. A request that is
// refused gets no further, and its body is not read.
//
//	+- net/http ------------ headers, connections, panics -----------------+
//	| +- other middleware -- a span, a log line, for each request -------+ |
//	| | +- Wrap ------------ answers what is refused ------------------+ | |
//	| | | +- Policy -------- keyed( limit( timeout( -----------------+ | | |
//	| | | |                  handler: at most once                   | | | |
//
// # Several hops
//
// From the second attempt on, Transport sends the header
//
//	Retry-Attempt: 2
//
// and Server puts the number into the context of its handler, from where the
// Transport of a further call takes it. A retry that finds it there does not try
// again, so three hops of three attempts each do not turn one call into 27.
//
// A server that has more requests than it is capable of answers those that it
// refuses with 503 and the header
//
//	Retry-Attempt: 0
//
// which says that no further attempt is wanted: what retries would add is what it has
// too much of. A Transport does not send such a request again, whatever its policies
// say, and takes the answer for that of a server that works: its breaker stays closed.
// Other values say nothing in a response. Both headers are meant for the other end,
// so proxies should leave them alone, and a handler that hands on the response of
// another service hands on the header too.
package httpmw
